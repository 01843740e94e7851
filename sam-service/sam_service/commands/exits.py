"""Exit codes, for scripts."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam_service.client import SamError


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    NOT_STARTED = 1
    USAGE = 2
    REFUSED = 3
    NOT_READY = 4
    FAILED = 5
    INTERRUPTED = 130


TABLE = """exit codes:
  0    done
  1    the service could not be started (serve)
  2    the command line is wrong
  3    the input is wrong, or the service refused it
  4    the service does not answer, is full, or its model is not there
  5    it failed midway; what was written stays
  130  interrupted (Ctrl-C); what was written stays
"""


def exit_of(error: SamError | OSError) -> Exit:
    """The exit code for what ended a command before its work began."""
    from sam_service.client import Busy, ModelUnavailable, ServiceFailed, Unreachable
    if isinstance(error, Unreachable | Busy | ModelUnavailable):
        return Exit.NOT_READY
    return Exit.FAILED if isinstance(error, ServiceFailed) else Exit.REFUSED
