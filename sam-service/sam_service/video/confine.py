"""What a decoding process takes away from itself before it opens a file that a stranger sent.

Everything here is done to the process that calls it and cannot be undone. Where a platform lacks a guard, the others hold;
`confine` says which are in force.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path

from sam_service.video.seccomp import filter_system_calls

NICENESS = 5
EXIT_MEMORY = 86
"""Exit status of a process that ended itself for the memory it used, where the system has no limit for that."""

_MAX_DESCRIPTORS = 64
_OOM_SCORE = "500"  # of 1000: when memory runs out the kernel ends this process before the service
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION_FLAG, _LANDLOCK_PATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # rights of the file system that each version knows, as bits from 0
_CAPABILITY_VERSION, _CAP_DAC_READ_SEARCH = 0x20080522, 1 << 2
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals


class _Ruleset(ctypes.Structure):
    _fields_ = (("filesystem", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def confine(video: int, max_memory_bytes: int, max_cpu_s: int) -> list[str]:
    """Give up what decoding the open file, or folder of pictures, `video` does not need. Returns the guards that are in force.

    Call it from the main thread, before any other is started: Landlock holds for this thread and those that it starts.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    guards = ["files", "processor"]
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
    ):
        resource.setrlimit(limit, (value, value))
    _limit_processor_time(max_cpu_s)
    if _limit_memory(max_memory_bytes):
        guards.append("memory")
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            guards.append("privileges")
        if _landlock(libc, video):
            guards.append("landlock")
        _drop_capabilities(libc, video)
        if filter_system_calls(opens_files=_is_folder(video)):
            guards.append("system calls")
    return guards


def die_with_parent() -> None:
    """End with the thread that started this process, where the system can do that. Elsewhere the closed socket ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def renew_processor_time(seconds: int) -> None:
    """From now on this process may use `seconds` of processor time, within its hard limit; then SIGXCPU ends it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + 1 + seconds
    # At the hard limit itself the kernel sends SIGKILL, which says less.
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard - 1), hard))


def memory_used() -> int:
    """The most memory, in bytes, that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _limit_processor_time(seconds: int) -> None:
    """Set the hard limit, which this process cannot raise again."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(time.process_time()) + seconds if hard == resource.RLIM_INFINITY else min(hard, seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit - 1, limit))


def _drop_capabilities(libc: ctypes.CDLL, video: int) -> None:
    """Give up what makes root more than a user: no limit can be raised then. Pictures in a folder may be another user's."""
    kept = _CAP_DAC_READ_SEARCH if _is_folder(video) else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)))


def _limit_memory(max_bytes: int) -> bool:
    """Limit the address space to what is mapped now and `max_bytes` more. False where the system cannot."""
    if sys.platform != "linux":
        return False
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (mapped + max_bytes, mapped + max_bytes))
    except (OSError, ValueError):  # an operator's own limit is tighter
        return True
    return True


def _landlock(libc: ctypes.CDLL, video: int) -> bool:
    """Allow this thread, and those that it starts, no file but `video`, for reading; no TCP, no signals to others."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION_FLAG)
    if version < 1:
        return False
    rights = (1 << _FS_RIGHTS.get(version, 16)) - 1
    ruleset = _Ruleset(rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(ruleset), size, 0)
    if rules < 0:
        return False
    rule = _PathRule(_READ_FILE | _READ_FOLDER if _is_folder(video) else _READ_FILE, video)
    allowed = libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_PATH, ctypes.byref(rule), 0) == 0
    done = bool(allowed and libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)
    os.close(rules)
    return done


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)
