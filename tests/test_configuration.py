"""`docs/configuration.md` says what the settings are."""

from __future__ import annotations

from pathlib import Path

from sam_service.settings import Settings

from docs.make_configuration import PAGE, render, sections

ROOT = Path(__file__).parent.parent


def test_the_page_of_options_is_what_the_settings_say() -> None:
    assert PAGE.read_text() == render(), "run docs/make_configuration.py"


def test_every_option_has_a_meaning() -> None:
    options = {name: words for _, part in sections((ROOT / ".env.example").read_text()) for name, _, words in part}
    assert {name.upper() for name in Settings.model_fields} <= set(options)
    assert all(words.endswith(".") for words in options.values())
