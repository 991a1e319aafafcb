"""What the command line ends with, and how each failure is said. Scripts depend on the numbers."""

import os
import sys
from collections.abc import Callable

from reconciler.cli.output import error, problem_lines
from reconciler.client import ApiFailure, ClientError

DONE = 0
FAILED = 1  # `diff`: there are differences; `status`: not all is well
USAGE = 2  # and a `diff` that could not be made
NOT_FOUND = 3
TIMED_OUT = 4
NO_CONTROLLER = 5
CONFLICT = 6
PERMISSION = 7
INTERRUPTED = 130  # as a shell counts Ctrl-C
BROKEN_PIPE = 141  # and a reader that went away, `| head`


class Failure(Exception):
    """A verb cannot go on; said as one error, without a trace."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def guarded(verb: Callable[[], object]) -> int:
    """Run a verb to its exit code; what it raises becomes words on stderr."""
    try:
        code = verb()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except (ClientError, Failure) as failure:
        return said(failure)
    except OSError as failure:
        place = f"{failure.filename}: " if failure.filename else ""
        error(f"{place}{failure.strerror or failure}")
        return PERMISSION if isinstance(failure, PermissionError) else FAILED
    return code if isinstance(code, int) else DONE


def said(failure: ClientError | Failure) -> int:
    """Say a failure on stderr; its exit code."""
    error(str(failure))
    if isinstance(failure, ApiFailure):
        problem_lines(failure.problems)
    return failure.exit_code


def _silence_stdout() -> None:
    """Keep the interpreter from complaining, at its end, that it could not flush."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # stdout is no descriptor, so nothing will be flushed to one
        pass
