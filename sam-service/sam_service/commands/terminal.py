"""How a command talks to the person who runs it: lines and a progress bar on stderr. stdout belongs to `--json`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam_service.client import PropagatedFrame

BAR_WIDTH = 30


class Terminal:
    """quiet: errors only. tenths: where stderr is no terminal, a line for every tenth replaces the bar."""

    def __init__(self, *, quiet: bool = False, tenths: bool = False) -> None:
        self._quiet = quiet
        self._tenths = tenths
        self._drawn = False

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        if not self._quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """A line that is printed in any case."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the bar."""
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    def bar(self, what: str, done: int, total: int, more: str = "") -> None:
        """Draw how far something is; the bar is removed when it is done."""
        filled = BAR_WIDTH * done // max(1, total)
        line = f"{what:9} [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{total}{more}"
        self.draw(line)
        if done >= total:
            self.clear()
        if self._tenths and not self._quiet and not sys.stderr.isatty() and done % max(1, total // 10) == 0:
            print(line, file=sys.stderr, flush=True)

    def draw(self, line: str) -> None:
        """A line that the next one replaces; on a terminal only."""
        if not self._quiet and sys.stderr.isatty():
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = True

    def progress(self, what: str, frames: Iterator[PropagatedFrame]) -> Iterator[PropagatedFrame]:
        """Pass frames through and show how far they are, with rate and time left."""
        started = time.perf_counter()
        for frame in frames:
            rate = frame.done / (time.perf_counter() - started)
            self.bar(what, frame.done, frame.total, f" {rate:.1f} frames/s, {(frame.total - frame.done) / rate:.0f} s left")
            yield frame
