"""Whose fault an error is, code by code."""

import struct
from collections.abc import Mapping
from typing import NamedTuple

import asyncpg
import pytest

from normalizer.errors import FatalError, StoreUnavailableError
from normalizer.store.sqlstate import (
    ErrorCause,
    classify_database_error,
    find_failed_copy_line,
    translate_error,
)

SECRET = "content of a row"


def rejection(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """The client's exception for a server's error, as it comes off the wire."""
    letters = {"schema": "s", "table": "t", "column": "c", "constraint": "n", "context": "W"}
    said = {"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": SECRET, "D": SECRET, "H": SECRET}
    said |= {letters[name]: value for name, value in fields.items()}
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(said)
    return error


CHECK = {"schema": "normalizer", "table": "events", "constraint": "events_attempts_from_zero"}


FOLLOWING = 'SQL statement "insert ..."\nPL/pgSQL function project_calls() line 18 at SQL statement'
LEDGER = ("source_positions", "gaps", "quarantine", "assigned_ids")


class Case(NamedTuple):
    about: str
    fault: ErrorCause
    codes: str
    fields: Mapping[str, str] = {}
    copying: tuple[bool, ...] = (True, False)


CASES = [
    Case(
        "a value that no column takes", ErrorCause.RECORD,
        "22000 22001 22003 22P02 22P05 22021 22008 22032 54000 54001",
    ),
    Case(
        "a broken row of COPY", ErrorCause.RECORD, "08P01",
        {"context": "COPY events, line 7, column context"}, (True,),
    ),
    Case("a broken protocol, a pooler without a server", ErrorCause.TRANSIENT, "08P01"),
    Case("a check of ours on an event", ErrorCause.RECORD, "23514", CHECK, (True,)),
    Case(
        "another check of ours", ErrorCause.RECORD, "23514",
        CHECK | {"constraint": "events_call_done_outcome"}, (True,),
    ),
    Case(
        "a missing value in a column of ours", ErrorCause.RECORD, "23502",
        {"schema": "normalizer", "table": "events", "column": "status"}, (True,),
    ),
    *(
        Case(
            f"{table} that do not balance", ErrorCause.FATAL, "23502 23514",
            CHECK | {"table": table, "constraint": f"{table}_offsets_balance"}, (False,),
        )
        for table in LEDGER
    ),
    Case(
        "a constraint of somebody else", ErrorCause.TRANSIENT, "23502 23514",
        {"schema": "audit", "table": "copied", "constraint": "copied_check"}, (True,),
    ),
    *(
        Case(
            f"an error inside {name}", ErrorCause.PROJECTION,
            "22000 22003 22P02 21000 P0001 P0002 54000 54001 38000", {"context": context},
        )
        for name, context in (
            ("a statement of a projection", FOLLOWING),
            ("a projection", "PL/pgSQL function projector.refuse() line 3 at RAISE"),
        )
    ),
    Case(
        "a constraint of a projection", ErrorCause.PROJECTION, "23502 23514",
        {"schema": "projector", "table": "event_minutes", "constraint": "c", "column": "c"},
        (True,),
    ),
    *(
        Case(f"content that names a projection: {context}", ErrorCause.RECORD, "22003",
             {"context": context}, (True,))
        for context in (
            "PL/pgSQL function refuse() line 3 at RAISE\nCOPY events, line 2",
            "JSON data, line 1: PL/pgSQL function projector.x() line 1",
            'COPY events, line 2, column step: "PL/pgSQL function project_calls()"',
        )
    ),
    Case("a key that is there already", ErrorCause.RACE, "23505", CHECK, (True,)),
    Case(
        "an outage", ErrorCause.TRANSIENT,
        "08000 08003 08006 08001 40001 40P01 53000 53100 53200 53300 55000 55006 55P03 57000 "
        "57014 57P01 57P02 57P03 57P05 58000 58030 58P01 25006 25P03 25P04 XX000 XX001 XX002",
        copying=(False,),
    ),
    Case(
        "nobody's fault, because it's listed nowhere", ErrorCause.TRANSIENT,
        "21000 23503 23P01 23000 27000 P0001 P0002 39000 09000 ZZ999", copying=(False,),
    ),
    Case(
        "wrong code, rights, or schema", ErrorCause.FATAL,
        "42501 42P01 42703 42601 28000 28P01 3D000 3F000 0A000 26000 F0000 F0001 25000 25001 "
        "25P01 25P02",
        CHECK,
    ),
]  # fmt: skip
RAISED = {
    ErrorCause.FATAL: FatalError,
    ErrorCause.PROJECTION: StoreUnavailableError,
    ErrorCause.TRANSIENT: StoreUnavailableError,
}


@pytest.mark.parametrize(
    ("case", "code"),
    [
        pytest.param(case, code, id=f"{case.about}, {code}")
        for case in CASES
        for code in case.codes.split()
    ],
)
def test_an_error_is_of_its_fault_and_raised_as_that(case: Case, code: str) -> None:
    error = rejection(code, **case.fields)

    assert {classify_database_error(error, copying=one) for one in case.copying} == {case.fault}
    assert isinstance(translate_error(error), RAISED.get(case.fault, Exception))


def test_the_projection_that_an_error_comes_from_is_named() -> None:
    constraint = {"schema": "projector", "table": "event_minutes", "constraint": "c"}

    assert "inside projector.project_calls" in str(
        translate_error(rejection("55P03", context=FOLLOWING))
    )
    assert "inside projector.event_minutes" in str(
        translate_error(rejection("23514", **constraint))
    )
    assert "inside" not in str(translate_error(rejection("55P03")))


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError("not an int"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        OverflowError("int too big"),
        struct.error("out of range"),
    ],
)
def test_a_value_that_the_client_cannot_encode_is_the_records_fault(error: Exception) -> None:
    assert classify_database_error(error, copying=True) is ErrorCause.RECORD


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("no"),
        ConnectionResetError("gone"),
        TimeoutError("late"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state 1"),
        asyncpg.ConnectionDoesNotExistError("closed in the middle of operation"),
    ],
)
def test_a_connection_that_is_gone_is_the_moments_fault(error: Exception) -> None:
    assert classify_database_error(error, copying=True) is ErrorCause.TRANSIENT
    assert isinstance(translate_error(error), StoreUnavailableError)


@pytest.mark.parametrize("code", ["22P02", "42P01", "57014", "23514"])
def test_nothing_that_the_server_quotes_gets_into_our_sentence(code: str) -> None:
    sentence = str(translate_error(rejection(code, **CHECK, context=SECRET)))

    assert SECRET not in sentence
    assert code in sentence


def test_an_error_of_somebody_elses_trigger_names_its_function() -> None:
    context = "PL/pgSQL function audit.guard() line 3 at RAISE\nCOPY events, line 1: " + SECRET

    said = str(translate_error(rejection("P0001", context=context)))

    assert said == "database: SQLSTATE P0001 (RaiseError) inside audit.guard"


def test_a_function_named_by_content_is_not_repeated() -> None:
    context = f"COPY events, line 1: {{\nPL/pgSQL function {SECRET}() line 3 at RAISE"

    assert SECRET not in str(translate_error(rejection("22003", context=context)))


def test_a_connection_error_is_said_by_its_kind_alone() -> None:
    assert SECRET not in str(translate_error(ConnectionResetError(SECRET)))


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ("COPY events, line 38", 38),
        ("COPY events, line 38, column context", 38),
        ("JSON data, line 1: {\nCOPY events, line 7\nCOPY events, line 38, column meta", 38),
        ("COPY events, line 500", 500),
        ("PL/pgSQL function f() line 3 at RAISE\nCOPY events, line 2", 2),
        ("PL/pgSQL function f() line 3 at RAISE", None),
        ("", None),
        (None, None),
    ],
)
def test_the_rejected_line_is_read_from_the_context(context: str | None, line: int | None) -> None:
    fields = {} if context is None else {"context": context}

    assert find_failed_copy_line(rejection("22P02", **fields)) == line


@pytest.mark.parametrize(
    ("code", "look_at"), [("28P01", "DATABASE_URL"), ("3D000", "DATABASE_URL"), ("42501", "check")]
)
def test_an_error_that_ends_the_process_says_what_to_look_at(code: str, look_at: str) -> None:
    assert look_at in str(translate_error(rejection(code)))


def test_a_read_only_server_says_that_it_may_be_a_standby() -> None:
    said = str(translate_error(rejection("25006")))

    assert "If it's a standby, name the primary in DATABASE_URL" in said
