"""What is wrong with an input, said once: where it stands, which field, what it is, and what to do about it."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One thing wrong with (or, as a warning, doubtful in) a manifest."""

    file: str
    line: int  # from 1; 0: the file as a whole
    column: int  # from 1
    field: str  # dotted path, `spec.env.PATH`; empty: the document as a whole
    message: str
    hint: str = ""
    severity: str = "error"  # or "warning"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {subject}{self.message}{hint}"

    def as_dict(self) -> dict[str, Any]:
        """The shape the API answers with."""
        return self._asdict()


class ApiError(Exception):
    """A request that cannot be done as asked; `exit_code` is what the command line ends with."""

    def __init__(
        self, status: int, exit_code: int, reason: str, message: str, problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.exit_code = exit_code
        self.reason = reason
        self.message = message
        self.problems = tuple(problems)
