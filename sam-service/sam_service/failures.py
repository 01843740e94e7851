"""A full disk, used-up memory, too many open files: what the system, the database and the libraries raise when something runs
out becomes an error of the service's own. The one place that recognises them."""

from __future__ import annotations

import errno
import sqlite3

from sam_service.errors import CapacityError, MemoryFull, ServiceError, StorageFull

RETRY_AFTER_S = 30
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DATABASE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC})
_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_DISK_WORDS = ("no space left", "disk quota exceeded", "file too large")  # of libraries that wrap the system's error
# Words of a RuntimeError of torch on a CPU, of oneDNN where it cannot make a primitive of a valid descriptor, of OpenCV's own
# error, and of CUDA's OutOfMemoryError.
_MEMORY = ("could not create a primitive", "bad_alloc", "can't start new thread",
           "not enough memory", "can't allocate memory", "cannot allocate memory", "insufficient memory",
           "out of memory", "failed to allocate")


def translate(error: BaseException) -> ServiceError | None:
    """The service's own error for what has run out, or the error itself where it is one of ours; None for anything else."""
    if isinstance(error, ServiceError):
        return error
    if is_disk_full(error):
        return disk_full()
    if isinstance(error, OSError) and error.errno in _FILES:
        return CapacityError("the service has too many files and connections open; try later", code="too_many_open_files",
                             retry_after_s=RETRY_AFTER_S)
    if _is_memory_full(error):
        return MemoryFull("there is not enough memory for this; close sessions, choose a smaller image_size or try later",
                          retry_after_s=RETRY_AFTER_S)
    return None


def is_disk_full(error: BaseException) -> bool:
    """Whether the system or the database says that the disk, or a quota on it, is full."""
    if isinstance(error, OSError):
        return error.errno in _DISK
    if any(words in str(error).lower() for words in _DISK_WORDS):
        return True
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in _DATABASE


def disk_full(message: str = "the service's disk is full; delete sessions or try later") -> StorageFull:
    """The error for a full disk. message: what could not be stored."""
    return StorageFull(message, retry_after_s=RETRY_AFTER_S)


def _is_memory_full(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return any(words in text for words in _MEMORY)
