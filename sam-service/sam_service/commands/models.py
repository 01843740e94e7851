"""`sam-service models`: which models there are, and fetching their weights ahead of the first start."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from huggingface_hub.utils.tqdm import tqdm

from sam_service.commands.exits import Exit
from sam_service.commands.terminal import Terminal
from sam_service.core.models.catalogue import ModelInfo, asked_revisions, available_models
from sam_service.core.models.hub import WEIGHTS_FILE, Snapshot, check_sha256, fetch, find_cached, sha256_of
from sam_service.core.models.registry import SIZES, check_folder
from sam_service.errors import ModelUnavailable, StorageFull
from sam_service.settings import Settings

BAR = "{desc} {percentage:3.0f}% [{bar:30}] {n_fmt}B of {total_fmt}B, {rate_fmt}, {remaining} left"


class Stopped(Exception):
    """The person who waits has pressed Ctrl-C."""


class ByteBar(tqdm):
    """Of the bars of the hub's client the one that counts bytes; to a terminal only."""

    what = ""
    stopping = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if options.get("unit") != "B" or str(options.get("name", "")).endswith(".transfer"):
            options["disable"] = True
        super().__init__(*arguments, **options | {"desc": self.what, "bar_format": BAR, "ascii": ".#", "leave": False})  # type: ignore[no-untyped-call]

    def update(self, n: float | None = 1) -> bool | None:
        """Count. The client waits for its threads however they are interrupted, so a download is ended from within."""
        if self.stopping:
            raise Stopped
        shown: bool | None = super().update(n)
        return shown

    def set_description(self, *_: Any, **__: Any) -> None:
        """Keep the description."""

    set_description_str = set_postfix_str = set_description


@dataclass(slots=True)
class Pulled:
    """What became of a size. state: embedded, present, fetched, or failed."""

    size: str
    state: str
    source: str
    revision: str | None = None
    commit: str | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    error: str | None = None


def list_models(settings: Settings, *, as_json: bool) -> Exit:
    """Print every size, as a table or as JSON. Asks no network."""
    asked = asked_revisions(settings.sam2_model_size, settings.sam2_checkpoint, settings.sam2_revision)
    models = available_models(revisions=asked)
    if as_json:
        print(json.dumps({"models": [asdict(model) for model in models]}, indent=1))
        return Exit.OK
    rows = [("size", "parameters", "input", "source", "here", "weights")] + [
        (model.size, f"{model.parameters_m:.1f} M", f"{model.image_size} px",
         model.source if model.revision in (None, model.commit) else f"{model.source}@{model.revision}",
         "yes" if model.present else "no", _where(model)) for model in models]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return Exit.OK


def _where(model: ModelInfo) -> str:
    if not model.present:
        return f"sam-service models pull {model.size}" if model.revision else "reinstall the package"
    return f"{model.folder}" + (f", commit {model.commit}" if model.commit else "")


def pull_models(settings: Settings, sizes: Sequence[str], *, revision: str | None, sha256: str | None, as_json: bool) -> Exit:
    """Fetch and check sizes, one after the other; the exit code is that of the first that failed.

    revision, sha256: of a single size. Without them those of the settings hold, for the size that the settings name.
    """
    terminal, pulled, code = Terminal(), [], Exit.OK
    own = settings.sam2_model_size if settings.sam2_checkpoint is None else None
    for size in sizes:
        spec = SIZES[size]
        item = Pulled(size, "embedded" if spec.embedded else "failed", spec.repo or "embedded")
        pulled.append(item)
        try:
            if not spec.embedded:
                _pull(item, revision or (settings.sam2_revision if size == own else None) or spec.revision,
                      sha256 or (settings.sam2_checkpoint_sha256 if size == own else None), settings.hf_hub_offline, terminal)
        except _Failed as failure:
            item.error = str(failure)
            terminal.error(f"{size}: {failure}")
            code = code or failure.code
        if not as_json and item.error is None:
            print(_outcome(item), flush=True)
    if as_json:
        print(json.dumps({"models": [asdict(item) for item in pulled]}, indent=1))
    return code


class _Failed(Exception):
    def __init__(self, code: Exit, why: str) -> None:
        super().__init__(why)
        self.code = code


def _pull(item: Pulled, revision: str, wanted: str | None, offline: bool, terminal: Terminal) -> None:
    """Fetch a size unless it is there, and check it. Raises _Failed; nothing is removed then."""
    item.revision = revision
    cached = find_cached(item.source, revision)
    try:
        if cached is None and not offline:
            terminal.say(f"{item.size}: fetching {item.source} at {revision}")
        snapshot = cached or _fetch(item, revision, offline)
    except StorageFull as error:
        raise _Failed(Exit.FAILED, error.message) from error
    except ModelUnavailable as error:
        raise _Failed(Exit.NOT_READY, error.message) from error
    file = snapshot.folder / WEIGHTS_FILE
    item.commit, item.file = snapshot.commit, str(file)
    try:
        item.bytes, item.sha256 = file.stat().st_size, sha256_of(file)
        if wanted is not None:
            check_sha256(file, item.sha256, wanted)
        check_folder(item.size, snapshot.folder)
    except (ModelUnavailable, OSError) as error:
        raise _Failed(Exit.REFUSED, f"{error} (the file stays where it is: {file})") from error
    item.state = "present" if cached else "fetched"


def _fetch(item: Pulled, revision: str, offline: bool) -> Snapshot:
    """Fetch with a bar. Ctrl-C ends it within the chunk that is on its way, and no partial file stays."""
    class Bar(ByteBar):
        what = item.size

    def stop(_signal: int, _frame: FrameType | None) -> None:
        Bar.stopping = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        return fetch(item.source, revision, offline=offline, bar=Bar)
    finally:
        signal.signal(signal.SIGINT, before)


def _outcome(item: Pulled) -> str:
    if item.state == "embedded":
        return f"{item.size}: embedded in the package, there is nothing to pull"
    done = "is there already, nothing was fetched" if item.state == "present" else "fetched and checked"
    return (f"{item.size}: {done}\n  source  {item.source} at {item.revision}, commit {item.commit}\n"
            f"  file    {item.file}, {(item.bytes or 0) / 1e6:.1f} MB\n  sha256  {item.sha256}")
