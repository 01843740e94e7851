"""What runs out is recognised in one place, whoever raises it."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sam_service.errors import CapacityError, MemoryFull, NotFound, StorageFull
from sam_service.failures import is_disk_full, translate

from tests.test_imports import PACKAGE, modules


@pytest.mark.parametrize("error", [OSError(number, "") for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)])
def test_a_full_disk(error: OSError) -> None:
    found = translate(error)
    assert isinstance(found, StorageFull) and found.code == "disk_full" and found.retry_after_s > 0
    assert is_disk_full(error)


def test_a_full_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "small.sqlite")) as database:
        database.execute("CREATE TABLE t (x BLOB)")
        database.execute("PRAGMA max_page_count = 3")
        with pytest.raises(sqlite3.OperationalError) as raised:
            database.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert isinstance(translate(raised.value), StorageFull)


@pytest.mark.parametrize("error", [
    MemoryError(), OSError(errno.ENOMEM, ""), *map(RuntimeError, (
        "could not create a primitive", "can't start new thread", "std::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB"))])
def test_used_up_memory(error: Exception) -> None:
    found = translate(error)
    assert isinstance(found, MemoryFull) and found.retry_after_s > 0
    assert not is_disk_full(error)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_pass(number: int) -> None:
    found = translate(OSError(number, ""))
    assert isinstance(found, CapacityError) and found.code == "too_many_open_files"


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), ValueError("x"), sqlite3.OperationalError("no such table")])
def test_other_failures_are_not_recognised(error: Exception) -> None:
    assert translate(error) is None
    assert not is_disk_full(error)


def test_an_error_of_the_service_stays_itself() -> None:
    error = NotFound("no such thing")
    assert translate(error) is error


def test_no_other_module_recognises_a_full_disk() -> None:
    words = ("ENOSPC", "EDQUOT", "EFBIG", "SQLITE_FULL")
    found = [str(path.relative_to(PACKAGE)) for _, path in modules() if any(word in path.read_text() for word in words)]
    assert found == ["failures.py"]
