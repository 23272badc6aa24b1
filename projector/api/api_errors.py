"""Errors of the API, by the HTTP status that the client receives.

ApiError
├── InvalidParameterError     400  a parameter is wrong
├── BadCursorError            400  the cursor is damaged or from another list
├── AmbiguousLengthError      400  two headers say how long the request is
├── UnauthorizedError         401  the token is missing or wrong
├── NotFoundError             404  there is no such path or id
├── MethodNotAllowedError     405  only GET and HEAD are served
├── MisdirectedError          421  the host name is not one of this server
├── InternalError             500  a bug in the server, whose log has the details
├── DatabaseUnavailableError  503  try again later
├── DatabaseRefusedError      503  a login, role, or migration is missing
├── BusyError                 503  too many requests at once: try again later
└── TooSlowError              504  request less data
"""

from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error response, in the form of RFC 9457 with the extra field `reason`.

    `type` links to the section of the documentation about this kind of error, and `title` is the
    same for every error of the kind. `detail` says what's wrong with this request in particular.
    """

    type: str
    title: str
    status: int
    detail: str
    reason: str


class ApiError(Exception):
    """A request that failed.

    Clients see its message, which holds no secret and no event content.
    """

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "internal_error"
    retry_after_s: ClassVar[int | None] = None

    def problem(self) -> Problem:
        """Return the body of the response."""
        return Problem(
            type=f"/api#{self.reason}",
            title=error_title(type(self)),
            status=self.status,
            detail=str(self),
            reason=self.reason,
        )


def error_title(error: type[ApiError]) -> str:
    """Return a sentence about what happened."""
    return (error.__doc__ or "").rstrip(".")


class InvalidParameterError(ApiError):
    """A parameter is unknown or has a wrong value."""

    status = 400
    reason = "invalid_parameter"


class BadCursorError(ApiError):
    """The cursor is from another list, or from an older version of the server."""

    status = 400
    reason = "no_such_page"


class AmbiguousLengthError(ApiError):
    """The request has both Content-Length and Transfer-Encoding."""

    status = 400
    reason = "ambiguous_length"


class UnauthorizedError(ApiError):
    """The token is missing or wrong."""

    status = 401
    reason = "unauthorised"


class NotFoundError(ApiError):
    """There is no such path or id."""

    status = 404
    reason = "not_found"


class MethodNotAllowedError(ApiError):
    """Only GET and HEAD are served."""

    status = 405
    reason = "method_not_allowed"


class MisdirectedError(ApiError):
    """A server without a token accepts only local host names, against DNS rebinding."""

    status = 421
    reason = "misdirected"


class InternalError(ApiError):
    """A bug in the server."""


class DatabaseUnavailableError(ApiError):
    """The database does not answer, or stopped during the query."""

    status = 503
    reason = "database_unavailable"
    retry_after_s = 5


class DatabaseRefusedError(ApiError):
    """The database rejects the sign-in or the query: a login, role, or migration is missing."""

    status = 503
    reason = "database_refused"


class BusyError(ApiError):
    """All database connections were in use for longer than a request may wait."""

    status = 503
    reason = "busy"
    retry_after_s = 5


class TooSlowError(ApiError):
    """The statement took longer than its timeout."""

    status = 504
    reason = "too_slow"


API_ERRORS = (
    InvalidParameterError,
    BadCursorError,
    AmbiguousLengthError,
    UnauthorizedError,
    NotFoundError,
    MethodNotAllowedError,
    MisdirectedError,
    InternalError,
    DatabaseUnavailableError,
    DatabaseRefusedError,
    BusyError,
    TooSlowError,
)
