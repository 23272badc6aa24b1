"""Decides whether a database error is caused by a record, by an outage, or by our code."""

import re
import struct
from enum import Enum
from typing import Final

import asyncpg

from normalizer.errors import (
    FatalError,
    NormalizerError,
    ProjectionFailedError,
    StoreUnavailableError,
)
from normalizer.postgres.database import describe_server_error
from normalizer.postgres.database_connection import DATABASE_ERRORS
from normalizer.runtime.logging_setup import describe_error_without_secrets


class ErrorCause(Enum):
    """What caused an error. It decides what happens with the batch."""

    RECORD = "record"
    """One row. Find it, quarantine its record, and write the rest."""
    RACE = "race"
    """Another writer was first. Roll back, and write the batch again at once."""
    PROJECTION = "projection"
    """A projection failed. Write the record without projections, and repair them later."""
    TRANSIENT = "transient"
    """The database is unreachable, overloaded, or locked, or we don't know the code. Retry later.
    """
    FATAL = "fatal"
    """Our code, its rights, or the schema is wrong. Log it once and exit."""


_RECORD_CODES: Final = frozenset({"54000", "54001"})
"""A value is too large, or too deeply nested, for PostgreSQL."""
_CHECKS: Final = frozenset({"23502", "23514"})
"""A null where none may be, or a violated check."""
_OUR_CLASSES: Final = frozenset({"42", "28", "3D", "3F", "0A", "26", "F0", "25"})
"""Wrong SQL or a missing right, a refused sign-in, an unknown database or schema, something that
this server doesn't support, an unknown prepared statement, a wrong configuration of the server, and
a statement in the wrong state of a transaction."""
_OUTAGES_OF_25: Final = frozenset({"25006", "25P03", "25P04"})
"""The codes in class 25 that aren't our bugs: a read-only server, or a session ended by a timeout.
"""
_OUTAGE_CLASSES: Final = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX"})

_SERVER_CLASSES: Final = frozenset({"08", "25", "53", "57", "58"})
"""Classes of errors of the whole server: unreachable, read-only, full, or shutting down."""

LOCK_NOT_AVAILABLE: Final = "55P03"
"""Another session held a lock for longer than lock_timeout."""

QUERY_CANCELED: Final = "57014"
"""A statement took longer than statement_timeout, or somebody cancelled it."""

DATA_CORRUPTED_CODES: Final = frozenset({"XX001", "XX002"})
"""The server read a broken page or index. It's retried like an outage, and it raises an alert."""

VALUE_ENCODING_ERRORS: Final = (
    asyncpg.exceptions._base.DataError,  # noqa: SLF001 - not exported; a value that can't be encoded
    UnicodeError,
    OverflowError,
    struct.error,
)
"""Errors that asyncpg raises before it sends a row. They have no SQLSTATE, but the row causes them.
"""


STATEMENT_ERRORS: Final = (*DATABASE_ERRORS, *VALUE_ENCODING_ERRORS)
"""Every exception that a statement can raise. The database causes no other exception."""

_COPY_LINE: Final = re.compile(r"^COPY \w+, line (\d+)", re.MULTILINE)
_FUNCTION: Final = re.compile(r"PL/pgSQL function ([^\s(]+)\(")
_PROJECTION: Final = re.compile(
    r"^PL/pgSQL function (?:projector\.(?=\w)|(?=project_))(\w+)\(", re.MULTILINE
)


def classify_database_error(error: BaseException, *, copying: bool) -> ErrorCause:
    """Decide what caused an error, for example a record, our own code, or an outage.

    Two fixed lists have the codes that a record causes and those that our own code causes. An error
    with any other code is retried, so that an unknown code never puts a record into quarantine.
    Source: docs/guarantees.md#an-outage-fills-no-quarantine.
    """
    if isinstance(error, VALUE_ENCODING_ERRORS):
        return ErrorCause.RECORD
    # A table was changed after the statement was prepared. asyncpg prepares it again.
    prepared_before = isinstance(error, asyncpg.InvalidCachedStatementError)
    if prepared_before or not isinstance(error, asyncpg.PostgresError):
        return ErrorCause.TRANSIENT
    code = error.sqlstate or ""
    if code[:2] in _OUR_CLASSES and code not in _OUTAGES_OF_25:
        return ErrorCause.FATAL
    # 08P01 has two meanings. The server sends it for a damaged COPY, and a connection pooler sends
    # it whenever its connection to the server fails. Only the server's error names a line of the
    # COPY, so look for that line.
    if code == "08P01" and copying and find_failed_copy_line(error) is not None:
        return ErrorCause.RECORD
    if code[:2] in _OUTAGE_CLASSES:
        return ErrorCause.TRANSIENT
    # 23505 is a race: another transaction inserted a row with the same key first.
    if code != "23505" and _find_failed_projection(error) is not None:
        return ErrorCause.PROJECTION
    return _fault_of_row(error, code)


def is_server_outage(error: NormalizerError) -> bool:
    """Return whether every batch would fail now, because the server is unreachable or can't write.

    Other errors that are retried may affect only this batch, for example a deadlock, a statement
    that took too long, or a broken index.
    """
    code = getattr(error, "sqlstate", None)
    return code is None or (code[:2] in _SERVER_CLASSES and code != QUERY_CANCELED)


def _fault_of_row(error: asyncpg.PostgresError, code: str) -> ErrorCause:
    """Decide about an error that isn't an outage and wasn't raised by a projection."""
    if code == "23505":
        return ErrorCause.RACE
    if code in _CHECKS and error.schema_name == "normalizer":
        is_of_an_event = error.table_name == "events"
        return ErrorCause.RECORD if is_of_an_event else ErrorCause.FATAL
    if code[:2] == "22" or code in _RECORD_CODES:
        return ErrorCause.RECORD
    return ErrorCause.TRANSIENT


def _find_failed_projection(error: BaseException) -> str | None:
    """Return the function or table of the schema projector that raised the error, or None.

    The trigger functions of projections set their schema in the search_path, so the server reports
    their names without it. They're recognized by the prefix project_, which no other function has.
    """
    found: list[str] = _PROJECTION.findall(getattr(error, "context", None) or "")
    if found:
        return f"projector.{found[-1]}"
    if getattr(error, "schema_name", None) == "projector":
        return f"projector.{getattr(error, 'table_name', None) or 'unnamed'}"
    return None


def _innermost_function(error: asyncpg.PostgresError) -> str | None:
    """Return the function that raised the error, such as an operator's own trigger, or None.

    The name comes from the first line of the error's context. Later lines may quote a record, so
    they aren't read.
    """
    found = _FUNCTION.match(getattr(error, "context", None) or "")
    return found[1] if found else None


def translate_error(error: BaseException, *, timed_out: bool = False) -> NormalizerError:
    """Translate the error by its code and its condition name, without quoting the server.

    The server's texts may contain secrets, because the detail and the context quote records, and
    the message may quote a value. Pass `timed_out` if the statement used up its time. If that
    happened inside a projection, the projection took too long.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return StoreUnavailableError(f"database: {describe_error_without_secrets(error)}")
    sentence = describe_server_error(error)
    projection = _find_failed_projection(error)
    if raised_in := projection or _innermost_function(error):
        sentence = f"{sentence} inside {raised_in}"
    fault = classify_database_error(error, copying=False)
    if fault is ErrorCause.FATAL:
        return FatalError(f"{sentence}: {_object_name(error)}")
    too_slow = timed_out and error.sqlstate == QUERY_CANCELED and projection is not None
    if fault is ErrorCause.PROJECTION or too_slow:
        return ProjectionFailedError(sentence, sqlstate=error.sqlstate)
    remedy = _READ_ONLY if error.sqlstate == "25006" else ""
    return StoreUnavailableError(sentence, remedy=remedy, sqlstate=error.sqlstate)


def find_failed_copy_line(error: BaseException) -> int | None:
    """Return the line of the COPY that the error names, counted from 1, or None.

    If the error's context names several lines, the last one is the COPY's own. Anything before it
    may be text from a value that was being parsed.
    """
    found: list[str] = _COPY_LINE.findall(getattr(error, "context", None) or "")
    return int(found[-1]) if found else None


def _object_name(error: asyncpg.PostgresError) -> str:
    """Return the names of the objects that the error is about, or a hint where to look."""
    names = (error.schema_name, error.table_name, error.column_name, error.constraint_name)
    named = ".".join(name for name in names if name)
    return named or _LOOK_AT.get(error.sqlstate[:2], "the server named no object")


_READ_ONLY: Final = (
    "the server accepts no writes. If it's a standby, name the primary in DATABASE_URL. Otherwise "
    "turn default_transaction_read_only off"
)
_LOOK_AT: Final = {
    "28": "check the user and the password in DATABASE_URL",
    "3D": "check the name of the database in DATABASE_URL",
    "3F": "the schema is missing: run `normalizer migrate`",
    "42": "an object is missing, or the user has no right to it: run `normalizer check`",
}
"""Hints by class of SQLSTATE."""
