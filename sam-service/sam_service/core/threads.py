"""How many threads this process may use. Read before torch is imported; imports nothing but the standard library.

A container's CPU quota is invisible to `os.cpu_count()` and to affinity: eight threads on a quota of two spend most of their
time throttled. The quota is read from cgroup v2, then v1.
"""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}
"""How threads wait for work (`apply_threads`)."""


def cpu_quota(root: Path = CGROUP, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The quota in CPUs of this process's cgroup and its parents, the tightest one; None where there is none."""
    quotas = [quota for folder in _folders(root, membership) if (quota := _read_quota(folder)) is not None]
    return min(quotas, default=None)


def usable_cpus(root: Path = CGROUP, membership: Path = Path("/proc/self/cgroup")) -> int:
    """CPUs that may really be used: affinity, cut down to the whole CPUs of the quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root, membership)
    return max(1, min(affinity, int(quota))) if quota is not None else affinity


def apply_threads(requested: int | None = None) -> int:
    """Set the OpenMP thread count for this process and return the number. Call it before importing torch.

    Threads that wait for work spin for a few microseconds and then sleep. Spinning on, as is the default, starves another busy
    process; never spinning wakes threads late, which costs a network of small layers a third of its speed on a quiet machine.
    `GOMP_SPINCOUNT` is read by GNU's OpenMP runtime and goes before the policy, which LLVM's reads. Variables that are set
    already stay.
    """
    threads = requested or usable_cpus()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    return threads


def _folders(root: Path, membership: Path) -> list[Path]:
    """The folders of this process's cgroup in each hierarchy, from its own up to the root."""
    paths = {root, root / "cpu"}
    if membership.is_file():
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = root if not controllers else root / "cpu"
            if controllers and "cpu" not in controllers.split(","):
                continue
            folder = base / path.lstrip("/")
            while folder != base and base in folder.parents:
                paths.add(folder)
                folder = folder.parent
    return [path for path in paths if path.is_dir()]


def _read_quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
            return None if limit == "max" else int(limit) / int(period)
        if (folder / "cpu.cfs_quota_us").is_file():
            limit_us = int((folder / "cpu.cfs_quota_us").read_text())
            return None if limit_us <= 0 else limit_us / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None
