"""Whose fault an error is, code by code."""

import struct

import asyncpg
import pytest

from normalizer.errors import FatalError, StoreUnavailableError
from normalizer.store.sqlstate import Fault, failed_copy_line, find_fault, translate_error

SECRET = "content of a row"


def rejection(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """The client's exception for a server's error, as it comes off the wire."""
    letters = {"schema": "s", "table": "t", "column": "c", "constraint": "n", "context": "W"}
    said = {"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": SECRET, "D": SECRET, "H": SECRET}
    said |= {letters[name]: value for name, value in fields.items()}
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(said)
    return error


CHECK = {"schema": "normalizer", "table": "events", "constraint": "events_attempts_from_zero"}


@pytest.mark.parametrize(
    "code",
    ["22000", "22001", "22003", "22P02", "22P05", "22021", "22008", "22032", "54000", "54001"],
)
@pytest.mark.parametrize("copying", [True, False])
def test_values_that_no_column_takes_are_the_records_fault(code: str, copying: bool) -> None:
    assert find_fault(rejection(code), copying=copying) is Fault.RECORD


def test_a_broken_copy_row_is_the_records_fault_but_a_broken_protocol_is_not() -> None:
    of_a_row = rejection("08P01", context="COPY events, line 7, column context")

    assert find_fault(of_a_row, copying=True) is Fault.RECORD
    assert find_fault(rejection("08P01"), copying=False) is Fault.TRANSIENT


def test_errors_of_a_pooler_without_a_server_are_no_records_fault() -> None:
    assert find_fault(rejection("08P01"), copying=True) is Fault.TRANSIENT


@pytest.mark.parametrize(
    "named",
    [
        CHECK,
        {"schema": "normalizer", "table": "events", "constraint": "events_call_done_outcome"},
    ],
)
def test_a_check_of_ours_on_an_event_is_the_records_fault(named: dict[str, str]) -> None:
    assert find_fault(rejection("23514", **named), copying=True) is Fault.RECORD


def test_a_missing_value_in_a_column_of_ours_is_the_records_fault() -> None:
    error = rejection("23502", schema="normalizer", table="events", column="status")

    assert find_fault(error, copying=True) is Fault.RECORD


@pytest.mark.parametrize("code", ["23502", "23514"])
@pytest.mark.parametrize("table", ["source_positions", "gaps", "quarantine", "assigned_ids"])
def test_a_ledger_that_does_not_balance_is_never_the_records_fault(code: str, table: str) -> None:
    error = rejection(code, schema="normalizer", table=table, constraint=f"{table}_offsets_balance")

    assert find_fault(error, copying=False) is Fault.FATAL


@pytest.mark.parametrize("code", ["23502", "23514"])
def test_a_constraint_of_somebody_else_is_never_the_records_fault(code: str) -> None:
    error = rejection(code, schema="audit", table="copied", constraint="copied_check")

    assert find_fault(error, copying=True) is Fault.TRANSIENT


FOLLOWING = 'SQL statement "insert ..."\nPL/pgSQL function project_calls() line 18 at SQL statement'


@pytest.mark.parametrize(
    "code", ["22000", "22003", "22P02", "21000", "P0001", "P0002", "54000", "54001", "38000"]
)
@pytest.mark.parametrize("copying", [True, False])
def test_an_error_inside_a_projection_is_never_the_records_fault(code: str, copying: bool) -> None:
    for context in (FOLLOWING, "PL/pgSQL function projector.refuse() line 3 at RAISE"):
        error = rejection(code, context=context)

        assert find_fault(error, copying=copying) is Fault.PROJECTION
        assert isinstance(translate_error(error), StoreUnavailableError)


@pytest.mark.parametrize("code", ["23502", "23514"])
def test_a_constraint_of_a_projection_is_never_the_records_fault(code: str) -> None:
    error = rejection(code, schema="projector", table="event_minutes", constraint="c", column="c")

    assert find_fault(error, copying=True) is Fault.PROJECTION
    assert "inside projector.event_minutes" in str(translate_error(error))


@pytest.mark.parametrize(
    "context",
    [
        "PL/pgSQL function refuse() line 3 at RAISE\nCOPY events, line 2",
        "JSON data, line 1: PL/pgSQL function projector.x() line 1",
        'COPY events, line 2, column step: "PL/pgSQL function project_calls()"',
    ],
)
def test_content_that_names_a_projection_is_none(context: str) -> None:
    assert find_fault(rejection("22003", context=context), copying=True) is Fault.RECORD


def test_the_projection_that_an_error_comes_from_is_named() -> None:
    assert "inside projector.project_calls" in str(
        translate_error(rejection("55P03", context=FOLLOWING))
    )
    assert "inside" not in str(translate_error(rejection("55P03")))


def test_a_key_that_is_there_already_is_a_race() -> None:
    assert find_fault(rejection("23505", **CHECK), copying=True) is Fault.RACE


@pytest.mark.parametrize(
    "code",
    [
        *("08000", "08003", "08006", "08001", "08P01"),
        *("40001", "40P01"),
        *("53000", "53100", "53200", "53300"),
        *("55000", "55006", "55P03"),
        *("57000", "57014", "57P01", "57P02", "57P03", "57P05"),
        *("58000", "58030", "58P01"),
        *("25006", "25P03", "25P04"),
        *("XX000", "XX001", "XX002"),
        # Not listed anywhere: nobody's fault.
        *("21000", "23503", "23P01", "23000", "27000", "P0001", "P0002", "39000", "09000", "ZZ999"),
    ],
)
def test_an_outage_is_the_moments_fault(code: str) -> None:
    assert find_fault(rejection(code), copying=False) is Fault.TRANSIENT
    assert isinstance(translate_error(rejection(code)), StoreUnavailableError)


@pytest.mark.parametrize(
    "code",
    [
        *("42501", "42P01", "42703", "42601", "28000", "28P01", "3D000", "3F000", "0A000"),
        *("26000", "F0000", "F0001", "25000", "25001", "25P01", "25P02"),
    ],
)
@pytest.mark.parametrize("copying", [True, False])
def test_wrong_code_rights_or_schema_end_the_process(code: str, copying: bool) -> None:
    assert find_fault(rejection(code, **CHECK), copying=copying) is Fault.FATAL
    assert isinstance(translate_error(rejection(code)), FatalError)


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
    assert find_fault(error, copying=True) is Fault.RECORD


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
    assert find_fault(error, copying=True) is Fault.TRANSIENT
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

    assert failed_copy_line(rejection("22P02", **fields)) == line


@pytest.mark.parametrize(
    ("code", "look_at"), [("28P01", "DATABASE_URL"), ("3D000", "DATABASE_URL"), ("42501", "check")]
)
def test_an_error_that_ends_the_process_says_what_to_look_at(code: str, look_at: str) -> None:
    assert look_at in str(translate_error(rejection(code)))


def test_a_read_only_server_says_that_it_may_be_a_standby() -> None:
    said = str(translate_error(rejection("25006")))

    assert "If it's a standby, name the primary in DATABASE_URL" in said
