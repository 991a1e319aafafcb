"""What one look at a queue tells: the values that drivers answer with and that scaling decides on.

Kept apart from the specs (binding.py): a driver answers in these words whatever it asked, so that scaling knows nothing
about servers and a driver nothing about counts of processes.
"""

from typing import NamedTuple


class QueueReading(NamedTuple):
    """One look at one queue. None: this driver cannot tell; never a guess."""

    waiting: float  # pieces of work that may be taken now: pending, due, and taken but expired; or the trigger's number
    reserved: float | None = None  # taken and not yet finished
    delayed: float | None = None  # not to be taken before some later moment
    oldest_seconds: float | None = None  # how long the oldest waiting piece has been waiting
    next_due_seconds: float | None = None  # until the first delayed piece may be taken
    arrived: float | None = None  # counter, may restart from 0 with the server: pieces ever put in
    completed: float | None = None  # counter, likewise: pieces ever finished
    service_seconds: float | None = None  # mean of the pieces that were seen to finish since the last look
    at_least: bool = False  # counting stopped at a bound: there may be more
    found: str = ""  # in words, for `queue test`: `list queues:mails: 3 waiting, 2 delayed (1 due), 0 reserved`


class QueueReadFailed(Exception):
    """A queue could not be read. `reason` is one word for the condition; the text says what to do; no secrets in it.

    Reasons: ConnectionRefused, TimedOut, AuthenticationFailed, WrongType, NotFound (table, virtual host; not an empty
    queue: that is 0), NotANumber, DriverMissing (a client library: the text holds the line that installs it),
    DriverFailed (a fault of the driver's own), BadMetadata, NotMeasured (the metric needs what this queue does not
    tell), ServerError.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
