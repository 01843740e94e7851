"""Which runs a comparison makes, in which order, and what each is compared with. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

EXACT, HALF = "exact", "size-512"
MODULES = {"ours": "ours", "meta": "meta_peer", "transformers": "transformers_peer"}
PEERS = ("meta", "transformers")
EMBEDDED, CONDENSED = "nano", "edgetam"
DEFAULT_MODES = {CONDENSED: (EXACT, HALF), "tiny": (EXACT, "bfloat16", HALF)}
# What each size has beyond `exact`; EdgeTAM's input is a multiple of 256 and its memory is condensed already.
MODES_OF = {CONDENSED: {EXACT, "bfloat16", "every-2", "every-4", HALF, "size-768", "size-512-every-2"}}
# At which modes the peers run, too: those that they have are other input sizes.
PEER_MODES = {CONDENSED: (EXACT, HALF)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One run. name: of the contender, with its mode. busy: beside another process that computes on all cores."""

    size: str
    name: str
    module: str
    mode: str
    objects: int
    busy: bool = False
    repeat: int = 0

    @property
    def key(self) -> tuple[str, str, int, bool]:
        """What repeated runs have in common."""
        return self.size, self.name, self.objects, self.busy

    @property
    def base(self) -> tuple[str, str, int, bool]:
        """The key of the run whose answers this one's are compared with: ours, at the input size of a peer."""
        mode = EXACT if self.module == "ours" else self.mode or EXACT
        return self.size, f"ours {mode}", self.objects, self.busy

    @property
    def label(self) -> str:
        """For progress and file names."""
        return f"{self.size} {self.name}, {self.objects} object{'s' * (self.objects > 1)}" + ", busy" * self.busy


def modes_of(size: str, asked: Sequence[str]) -> list[str]:
    """The modes in which ours runs a size, exact first. asked: none for the usual ones."""
    modes = asked or DEFAULT_MODES.get(size, (EXACT,))
    return sorted((mode for mode in dict.fromkeys(modes) if mode in MODES_OF.get(size, {mode})), key=lambda mode: mode != EXACT)


def contenders(size: str, only: Sequence[str], asked: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(name, module, mode) in the order of the runs; ours goes first, since others are compared with it."""
    modes = modes_of(size, asked)
    if "ours" in only:
        yield from ((f"ours {mode}", "ours", mode) for mode in modes)
    for peer in PEERS:
        if peer in only and size != EMBEDDED:
            for mode in PEER_MODES.get(size, (EXACT,)):
                if mode in modes or mode == EXACT:
                    yield (peer if mode == EXACT else f"{peer} {mode}"), MODULES[peer], mode


def entries(sizes: Sequence[str], only: Sequence[str], asked: Sequence[str], objects: Sequence[int], *, beside: str,
            repeats: int) -> Iterator[Entry]:
    """All runs. Repeated ones are interleaved. beside: `quiet`, `busy` or `both`; with `both` only the exact runs of one object
    are made twice."""
    for repeat in range(repeats):
        for busy in {"quiet": (False,), "busy": (True,), "both": (False, True)}[beside]:
            for count in dict.fromkeys(objects):
                for size in dict.fromkeys(sizes):
                    for name, module, mode in contenders(size, only, asked):
                        twice = count == 1 and mode == EXACT and name != "transformers"
                        alone = size == CONDENSED and name.startswith("meta")  # Meta's EdgeTAM stops at a second object
                        if (twice or not busy or beside != "both") and (count == 1 or not alone):
                            yield Entry(size, name, module, mode, count, busy, repeat)
