"""The comparison with other predictors: its arithmetic, and one small run of the driver."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.compare import report
from benchmarks.compare.peers import environment
from benchmarks.compare.plan import entries, modes_of

ROOT = Path(__file__).parent.parent
WARMING = [9.0] * report.STEADY_FROM


def run_of(contender: str, seconds: list[float], **more: object) -> dict[str, Any]:
    return {"size": "tiny", "busy": False, "contender": contender, "objects": 1,
            "frames_s": WARMING + seconds, "frames_cpu_s": WARMING + seconds,
            "first_click_s": 2.0, "first_click_without_encoder_s": 0.5, "peak_rss_mib": 700.0, **more}


def test_rows_take_medians_over_full_memory_and_over_runs() -> None:
    runs = [run_of("ours exact", [1.0, 5.0, 1.0]), run_of("meta", [3.0]),
            run_of("ours exact", [2.0]), run_of("meta", [3.5]), run_of("ours exact", [1.5]), run_of("meta", [2.0])]
    ours, meta = report.rows(runs)
    assert ours["seconds_per_frame"] == {"median": 1.5, "low": 1.0, "high": 2.0}
    assert ours["faster_than"] == {"meta": 2.0, "reference": 2.0}
    assert meta["faster_than"] == {}
    assert (ours["runs"], ours["failed"]) == (3, 0)


def test_a_row_is_compared_at_its_own_input_size_and_with_sam_2_as_its_authors_run_it() -> None:
    runs = [run_of("meta", [6.0]), run_of("meta", [30.0], busy=True), run_of("ours exact", [4.0], objects=4),
            run_of("ours exact", [1.0], size="edgetam", same_size="exact"), run_of("meta", [2.0], size="edgetam"),
            run_of("ours size-512", [0.25], size="edgetam", same_size="size-512"),
            run_of("meta size-512", [0.5], size="edgetam", same_size="size-512"),
            run_of("ours size-512", [0.75], same_size="size-512"),
            run_of("ours exact", [1.5], size="edgetam", busy=True)]
    found = {(row["size"], row["contender"], row["objects"], row["busy"]): row["faster_than"] for row in report.rows(runs)}
    assert found["edgetam", "ours exact", 1, False] == {"meta": 2.0, "reference": 6.0}
    assert found["edgetam", "ours size-512", 1, False] == {"meta": 2.0, "reference": 24.0}
    assert found["edgetam", "meta size-512", 1, False] == {"reference": 12.0}
    assert found["tiny", "ours size-512", 1, False] == {"meta": 8.0, "reference": 8.0}
    assert found["edgetam", "ours exact", 1, True] == {"reference": 20.0}
    assert found["tiny", "ours exact", 4, False] == found["tiny", "meta", 1, False] == {}


def test_the_profile_is_of_quiet_runs_with_one_object_and_full_memory() -> None:
    parts = {"encoder_s": WARMING + [0.5], "parts_s": {"memory attention": WARMING + [0.25], "mask decoder": WARMING + [0.125]}}
    runs = [run_of("ours exact", [1.0], repeat=0, **parts), run_of("meta", [2.0], repeat=0, parts_s={}),
            run_of("ours exact", [3.0], repeat=0, **parts | {"busy": True})]
    assert report.profile(runs).splitlines()[2:] == ["| tiny | ours exact | 0.500 | 0.250 | 0.125 | 0.000 | 0.125 | 1.000 |"]
    assert report.profile(runs[1:2]) == ""


def test_the_plan_runs_ours_first_and_busy_neighbours_for_exact_runs_of_one_object() -> None:
    plan = list(entries(["tiny", "edgetam"], ["ours", "meta"], [], [1, 4], beside="both", repeats=1))
    quiet = [(entry.size, entry.name) for entry in plan if entry.objects == 1 and not entry.busy]
    assert quiet == [("tiny", "ours exact"), ("tiny", "ours bfloat16"), ("tiny", "ours size-512"), ("tiny", "meta"),
                     ("edgetam", "ours exact"), ("edgetam", "ours size-512"), ("edgetam", "meta"),
                     ("edgetam", "meta size-512")]
    assert [(entry.size, entry.name, entry.objects) for entry in plan if entry.busy] == [
        ("tiny", "ours exact", 1), ("tiny", "meta", 1), ("edgetam", "ours exact", 1), ("edgetam", "meta", 1)]
    assert [entry.name for entry in plan if entry.objects == 4 and entry.size == "edgetam"] == ["ours exact", "ours size-512"]
    assert next(entry for entry in plan if entry.name == "meta size-512").base == ("edgetam", "ours size-512", 1, False)
    assert modes_of("edgetam", ["size-672", "share-5", "every-2", "exact"]) == ["exact", "every-2"]
    assert [entry.name for entry in entries(["nano"], ["ours", "meta"], [], [1], beside="quiet", repeats=2)] == [
        "ours exact"] * 2


def test_a_contender_waits_as_the_service_does_and_a_peer_as_it_does_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert "OMP_WAIT_POLICY" not in environment(2)
    ours = environment(2, waits=True)
    assert (ours["OMP_WAIT_POLICY"], ours["GOMP_SPINCOUNT"], ours["OMP_NUM_THREADS"]) == ("PASSIVE", "2000", "2")


def test_a_failed_contender_keeps_its_row_and_its_last_words() -> None:
    failed = {"size": "tiny", "busy": False, "contender": "meta", "objects": 1, "error": "ImportError: no sam2"}
    found = report.rows([run_of("ours exact", [1.0], mask_iou={"mean": 1.0, "min": 1.0}), failed])
    assert found[0]["faster_than"] == {}
    assert (found[1]["runs"], found[1]["failed"], found[1]["error"]) == (0, 1, "ImportError: no sam2")
    text = report.table(found)
    assert "failed" in text
    assert text.endswith("ImportError: no sam2")


def test_agreement_counts_two_empty_masks_as_equal() -> None:
    exact = np.zeros((3, 1, 2, 2), bool)
    exact[0], exact[1, 0, 0] = True, True
    masks = exact.copy()
    masks[1, 0] = [[True, False], [False, False]]
    assert report.agreement(masks, exact) == {"mean": round(2.5 / 3, 5), "min": 0.5}


def test_logits_difference_is_relative_to_each_frames_and_objects_own_range() -> None:
    exact = np.array([[[[-10.0, 10.0]]], [[[-1.0, 0.5]]], [[[2.0, 2.0]]]], np.float32)
    other = exact + np.array([[[[1.0, 0.0]]], [[[0.0, 0.5]]], [[[0.0, 0.0]]]], np.float32)
    assert report.logits_difference(other, exact) == {"max": 0.5, "median": 0.1}


def test_the_machine_is_described(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 amx_int8\n\nmodel name\t: Other\n")
    machine = report.machine(tmp_path / "cpuinfo")
    assert (machine["cpu"], machine["flags"]) == ("Some CPU", ["avx2", "amx_int8"])
    assert len(machine["load_average_at_start"]) == 3


def compare(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    small = ["--image-size", "256", "--frames", "9", "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.compare", *small, *options]
    return subprocess.run(command, cwd=ROOT, timeout=600, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_driver(tmp_path: Path) -> None:
    done = compare(tmp_path / "compare.json", "--only", "ours", "--size", "tiny", "--modes", "exact", "--beside", "quiet")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "compare.json").read_text())
    assert [(row["contender"], row["objects"]) for row in written["results"]] == [("ours exact", 1), ("ours exact", 4)]
    for row, run in zip(written["results"], written["runs"], strict=True):
        assert row["mask_iou"] == {"mean": 1.0, "min": 1.0}
        assert row["logits_difference"]["max"] == 0.0
        assert len(run["frames_s"]) == 9
        assert row["seconds_per_frame"]["median"] == pytest.approx(run["frames_s"][8], abs=1e-3)
        assert 0 < row["first_click_without_encoder_s"]["median"] < row["first_click_s"]["median"]
        assert row["peak_rss_mib"]["median"] > 200
        masks = np.load(tmp_path / "masks" / run["masks"])
        assert tuple(masks["shape"]) == (9, row["objects"], 720, 1280)
        assert 0.01 < np.unpackbits(masks["masks"]).mean() < 0.99
    assert written["machine"]["threads"] >= 1
    assert written["machine"]["torch"]
    assert "seeded random" in written["note"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.json", "masks"]


@pytest.mark.slow
def test_the_driver_tells_of_a_contender_that_fails(tmp_path: Path) -> None:
    done = compare(tmp_path / "compare.json", "--only", "meta", "--size", "tiny", "--objects", "1", "--beside",
                   "quiet", "--meta-python", sys.executable)
    assert done.returncode == 1, done.stderr
    [row] = json.loads((tmp_path / "compare.json").read_text())["results"]
    assert "No module named 'sam2'" in row["error"]
    assert "No module named 'sam2'" in done.stdout
