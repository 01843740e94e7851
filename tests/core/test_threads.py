"""Thread counts under a quota, on made-up cgroup trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from sam_service.core.threads import apply_threads, cpu_quota, usable_cpus


def tree(root: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    (root / "self").write_text(membership)
    return root / "cgroup", root / "self"


@pytest.mark.parametrize(("files", "membership", "quota"), [
    ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
    ({"cpu.max": "max 100000\n"}, "0::/\n", None),
    ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4.0),
    ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "200000 100000"}, "0::/a/b\n", 1.0),
    ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/\n", 3.0),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/\n", None),
    ({"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu:/x\n3:memory:/y\n", 0.5),
    ({"cpu.max": "nonsense"}, "0::/\n", None),
    ({"readme": ""}, "0::/\n", None),
])
def test_quota(tmp_path: Path, files: dict[str, str], membership: str, quota: float | None) -> None:
    assert cpu_quota(*tree(tmp_path, files, membership)) == quota


def test_usable_cpus_are_whole_and_at_least_one(tmp_path: Path) -> None:
    assert usable_cpus(*tree(tmp_path, {"cpu.max": "50000 100000"}, "0::/\n")) == 1


def test_waiting_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr("os.environ", environment)
    assert apply_threads(3) == 3
    assert environment == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000",
                           "KMP_BLOCKTIME": "0"}
    environment["OMP_WAIT_POLICY"] = "ACTIVE"
    apply_threads(2)
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
