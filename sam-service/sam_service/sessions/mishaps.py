"""What the operating system, the database and the libraries raise when something runs out, as errors of our own."""

from __future__ import annotations

import errno
import sqlite3

from sam_service.errors import MemoryFull, ServiceError, StorageFull

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_STORES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC})
# torch says so on a CPU in a RuntimeError, oneDNN by a primitive that it cannot make of a descriptor that it could, OpenCV in
# its own error, CUDA in an OutOfMemoryError.
_NO_MEMORY = ("could not create a primitive", "bad_alloc", "can't start new thread",
              "not enough memory", "can't allocate memory", "cannot allocate memory", "insufficient memory",
              "out of memory", "failed to allocate")
RETRY_AFTER_S = 30


def known(error: BaseException) -> ServiceError | None:
    """The service's own error for a full disk or memory that is used up; None for anything else."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return disk_full()
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in _FULL_STORES:
        return disk_full()
    told = str(error).lower()
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM) or any(
            phrase in told for phrase in _NO_MEMORY):
        return MemoryFull("there is not enough memory for this; close sessions, choose a smaller image_size or try later",
                          retry_after_s=RETRY_AFTER_S)
    return None


def disk_full() -> StorageFull:
    """The disk is full."""
    return StorageFull("the service's disk is full; delete sessions or try later", retry_after_s=RETRY_AFTER_S)
