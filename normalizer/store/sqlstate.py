"""A database error in, whose fault it is out: the record's, the moment's, or ours."""

import re
import struct
from enum import Enum
from typing import Final

import asyncpg

from normalizer.errors import FatalError, NormalizerError, StoreUnavailable
from normalizer.telemetry import described


class Fault(Enum):
    """What an error says about the batch that met it."""

    RECORD = "record"
    """One row is to blame: find it, set it aside, write the rest."""
    RACE = "race"
    """Another writer was first: roll back and do the batch again at once."""
    MOMENT = "moment"
    """The database is away or overloaded: back off, then the same batch again."""
    OURS = "ours"
    """Wrong code, rights or schema: log once and exit."""


_RECORD_CODES: Final = frozenset({"54000", "54001"})
_MOMENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
_MOMENT_CODES: Final = frozenset({"25006"})
_CHECKS: Final = frozenset({"23502", "23514"})

CLIENT_REFUSALS: Final = (
    asyncpg.exceptions._base.DataError,  # noqa: SLF001 - not exported; a value that cannot be encoded
    UnicodeError,
    OverflowError,
    struct.error,
)
"""Raised by the client before a row is sent: no server code, but the row is to blame."""


FOREIGN_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    *CLIENT_REFUSALS,
)
"""Everything a statement can raise; no other exception is the database's."""

_COPY_LINE: Final = re.compile(r"^COPY \w+, line (\d+)", re.MULTILINE)


def fault_of(error: BaseException, *, copying: bool) -> Fault:
    """Whose fault it is. A code not listed is never a record's fault.

    Source: promise 5, the SQLSTATE classes.
    """
    if isinstance(error, CLIENT_REFUSALS):
        return Fault.RECORD
    if not isinstance(error, asyncpg.PostgresError):
        return Fault.MOMENT
    code = error.sqlstate or ""
    if code[:2] == "22" or code in _RECORD_CODES or (code == "08P01" and copying):
        return Fault.RECORD
    if code in _CHECKS and _is_of_an_event(error):
        return Fault.RECORD
    if code == "23505":
        return Fault.RACE
    if code[:2] in _MOMENT_CLASSES or code in _MOMENT_CODES:
        return Fault.MOMENT
    return Fault.OURS


def translated(error: BaseException) -> NormalizerError:
    """The error as this package raises it: code and condition, never the server's detail.

    Detail and context carry content; the primary message may quote a value, so it stays out too.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return StoreUnavailable(f"database: {described(error)}")
    sentence = f"database: SQLSTATE {error.sqlstate} ({type(error).__name__})"
    if fault_of(error, copying=False) is Fault.OURS:
        return FatalError(f"{sentence}: {_name_of(error)}")
    return StoreUnavailable(sentence, sqlstate=error.sqlstate)


def line_of(error: BaseException) -> int | None:
    """The line of the COPY (from 1) that the server was at, if it says so.

    The outermost context comes last; before it may stand content that was being parsed.
    """
    found: list[str] = _COPY_LINE.findall(getattr(error, "context", None) or "")
    return int(found[-1]) if found else None


def _is_of_an_event(error: asyncpg.PostgresError) -> bool:
    """Whether a row of `events` or of a projection broke it, and not the ledger: that is ours."""
    return error.schema_name == "projector" or (
        error.schema_name == "normalizer" and (error.table_name or "").startswith("events")
    )


def _name_of(error: asyncpg.PostgresError) -> str:
    """What the error is about, by name only; where the server names nothing, what to look at."""
    names = (error.schema_name, error.table_name, error.column_name, error.constraint_name)
    named = ".".join(name for name in names if name)
    return named or _LOOK_AT.get(error.sqlstate[:2], "the server named no object")


_LOOK_AT: Final = {
    "28": "see the user and the password in DATABASE_URL",
    "3D": "see the database's name in DATABASE_URL",
    "3F": "the schema is not there: `normalizer migrate`",
    "42": "no such object, or no right to it: `normalizer check` says which",
}
"""By class of SQLSTATE."""
