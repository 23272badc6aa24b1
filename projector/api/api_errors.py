"""What can go wrong with a question, drawn by the status that its asker gets.

ApiError
├── InvalidParameterError     400  mend the address
├── UnauthorisedError         401  send the token
├── NotFoundError             404  there is no such thing
├── MethodNotAllowedError     405  only reading is offered
├── MisdirectedError          421  another host name was asked for than is served
├── InternalError             500  a mistake of ours; the log has it
├── DatabaseUnavailableError  503  ask again later
├── DatabaseRefusedError      503  an operator must mend the database's side
├── BusyError                 503  too many questions at once: ask again later
└── TooSlowError              504  ask for less
"""

from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is none."""

    status: int
    reason: str
    detail: str


class ApiError(Exception):
    """A question without an answer; its message is shown, so it holds no secret and no content."""

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "internal_error"

    def problem(self) -> Problem:
        """The body of the answer."""
        return Problem(status=self.status, reason=self.reason, detail=str(self))


class InvalidParameterError(ApiError):
    """A parameter is unknown, or not what it should be."""

    status = 400
    reason = "invalid_parameter"


class UnauthorisedError(ApiError):
    """No token, or a wrong one."""

    status = 401
    reason = "unauthorised"


class NotFoundError(ApiError):
    """Nothing of that name or id."""

    status = 404
    reason = "not_found"


class MethodNotAllowedError(ApiError):
    """Only GET and HEAD are served."""

    status = 405
    reason = "method_not_allowed"


class MisdirectedError(ApiError):
    """Without a token only local names are answered: another site's name may be bent to us."""

    status = 421
    reason = "misdirected"


class InternalError(ApiError):
    """A mistake of ours."""


class DatabaseUnavailableError(ApiError):
    """The database is away, or stopped in the middle."""

    status = 503
    reason = "database_unavailable"


class DatabaseRefusedError(ApiError):
    """The database answers, but will not serve this: rights, migrations, a role."""

    status = 503
    reason = "database_refused"


class BusyError(ApiError):
    """Every connection is in use for longer than a question may wait."""

    status = 503
    reason = "busy"


class TooSlowError(ApiError):
    """The statement took longer than it may."""

    status = 504
    reason = "too_slow"


ERRORS = (
    InvalidParameterError,
    UnauthorisedError,
    NotFoundError,
    MethodNotAllowedError,
    MisdirectedError,
    InternalError,
    DatabaseUnavailableError,
    DatabaseRefusedError,
    BusyError,
    TooSlowError,
)
