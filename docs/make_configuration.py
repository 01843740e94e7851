"""Write `docs/configuration.md` from the settings and from what `.env.example` says of each option.

    PYTHONPATH=sam-service:. python docs/make_configuration.py

A test holds the page to what this writes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sam_service.modes import MODES, OPTIONS, Knobs
from sam_service.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration

Every option, by the parts of `.env.example`. `docs/make_configuration.py` writes this page from the settings; change it there.

The service reads options from its command line, then the environment, then a file `.env` in the folder it is started in. A
variable that is set to nothing counts as unset. A wrong value ends the start with exit code 2 and names the variable. `serve`
takes `--host`, `--port`, `--data-dir`, `--model-size`, `--checkpoint` and `--revision`; everything else is environment.
"""
NUMBERS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def main() -> None:
    """Write the page."""
    PAGE.write_text(render())


def render() -> str:
    """The page as text."""
    values = Settings.model_json_schema()["properties"]
    parts = [HEAD]
    for title, options in sections((ROOT / ".env.example").read_text()):
        lines = [f"## {title}", "", "| variable | value | default | meaning |", "| --- | --- | --- | --- |"]
        for name, default, words in options:
            lines.append(f"| `{name}` | {_kind(values.get(name.lower()))} | {_default(default)} | {words} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, _modes()])


def sections(text: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The parts of `.env.example`: a title each, and its options as name, default and comment."""
    found: list[tuple[str, list[tuple[str, str, str]]]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if title := re.fullmatch("# --- (.+) ---", line):
            found.append((title[1], []))
        elif option := re.fullmatch("#?([A-Z][A-Z0-9_]+)=(.*)", line):
            found[-1][1].append((option[1], option[2], " ".join(comment)))
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment = []
    return found


def _kind(schema: dict[str, Any] | None) -> str:
    """What values an option takes, from its JSON schema; None: it is not the service's own."""
    if schema is None:
        return ""
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") in ("path", "password"):
        return {"path": "path", "password": "secret"}[schema["format"]]
    bounds = [f"{words} {schema[key]:g}" for key, words in (
        ("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below")) if key in schema]
    return ", ".join([NUMBERS[schema["type"]], " ".join(bounds)] if bounds else [NUMBERS[schema["type"]]])


def _default(shown: str) -> str:
    return f"`{shown}`" if shown else ""


def _modes() -> str:
    """The table of what each mode comes to."""
    lines = ["## Modes", "",
             "`SAM2_MODE` sets these options together; one that is set by itself goes before the mode. `PUT /mode` changes the",
             "mode of a running service ([API](api.md#modes)).", "",
             f"| | {' | '.join(MODES)} |", f"| --- |{' --- |' * len(MODES)}"]
    lines += [f"| `{option}` | {' | '.join(_knob(knob, knobs) for knobs in MODES.values())} |"
              for knob, option in OPTIONS.items()]
    return "\n".join([*lines, "", "`fastest` is bfloat16 on a CPU that has instructions for it, and `auto` elsewhere.", ""])


def _knob(knob: str, knobs: Knobs) -> str:
    if knob == "image_size":
        return f"half the model's own, {knobs.input_side(1024)} for SAM 2.1, {knobs.input_side(320)} for nano" \
            if knobs.half_input else "the model's own"
    if knob == "threads":
        return "half of the usable CPUs" if knobs.half_threads else "the usable CPUs"
    return str(getattr(knobs, knob))


if __name__ == "__main__":
    main()
