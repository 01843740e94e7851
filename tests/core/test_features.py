"""Image features in memory and on disk: what comes back is what went, and no failure of the disk costs more than time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sam_service.core.feature_files import FeatureFiles
from sam_service.core.features import FeatureCache, Features, nbytes

CPU = torch.device("cpu")
SIDE = 64


def made(seed: int, *, pixels: bool = True) -> Features:
    torch.manual_seed(seed)
    kept = {"pixels": torch.full((SIDE, SIDE, 3), seed, dtype=torch.uint8)} if pixels else {}
    return {"fine": torch.randn(1, 4, 16, 16), "half": torch.randn(1, 8, 8, 8).bfloat16(), **kept}


NBYTES = nbytes(made(0))


def same(found: Features | None, wanted: Features) -> bool:
    assert found is not None
    return found.keys() == wanted.keys() and all(
        found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in wanted.items())


def fill(cache: FeatureCache, session: str, frames: int) -> None:
    for frame in range(frames):
        cache.put((session, frame, SIDE), made(frame))


@pytest.mark.parametrize("pixels", [True, False])
def test_features_come_back_from_disk_as_they_went(tmp_path: Path, pixels: bool) -> None:
    files = FeatureFiles(tmp_path / "features", 100 * NBYTES)
    cache = FeatureCache(0, files)
    for frame in range(4):
        cache.put(("a", frame, SIDE), made(frame, pixels=pixels))
    assert cache.nbytes == nbytes(made(3, pixels=pixels)) and files.nbytes == 3 * nbytes(made(0, pixels=pixels))
    for frame in range(4):
        assert cache.holds(("a", frame, SIDE))
        assert same(cache.get(("a", frame, SIDE), CPU), made(frame, pixels=pixels))
    assert cache.get(("a", 9, SIDE), CPU) is None and cache.get(("b", 0, SIDE), CPU) is None
    cache.forget("a")
    assert (cache.nbytes, files.nbytes) == (0, 0)
    assert not list((tmp_path / "features").iterdir())


def test_a_session_keeps_its_first_frames_and_older_sessions_give_way(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path / "features", 5 * NBYTES)
    cache = FeatureCache(0, files)
    fill(cache, "a", 9)
    assert [frame for frame in range(9) if cache.holds(("a", frame, SIDE))] == [0, 1, 2, 3, 4, 8]
    fill(cache, "b", 3)
    assert not cache.holds(("a", 0, SIDE))
    assert [frame for frame in range(3) if cache.holds(("b", frame, SIDE))] == [0, 1, 2]
    assert files.nbytes <= 5 * NBYTES


def test_no_room_a_damaged_file_and_leftovers(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    full = FeatureCache(0, FeatureFiles(folder, 100 * NBYTES, min_free_bytes=1 << 60))
    fill(full, "a", 3)
    assert not full.holds(("a", 0, SIDE)) and not folder.exists()

    files = FeatureFiles(folder, 100 * NBYTES)
    cache = FeatureCache(0, files)
    fill(cache, "a", 3)
    for damage in (b"", b"\xff" * 64):
        next(iter(sorted(folder.glob("a/*")))).write_bytes(damage)
        assert cache.get(("a", 0, SIDE), CPU) is None and not cache.holds(("a", 0, SIDE))
        fill(cache, "a", 3)
    next(iter(sorted(folder.glob("a/*")))).unlink()
    assert cache.get(("a", 0, SIDE), CPU) is None

    FeatureFiles(folder, NBYTES).open()
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in the way")
    files = FeatureFiles(tmp_path / "features", 100 * NBYTES)
    cache = FeatureCache(0, files)
    fill(cache, "a", 3)
    assert files.nbytes == 0 and same(cache.get(("a", 2, SIDE), CPU), made(2))
