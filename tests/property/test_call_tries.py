"""Attempts are found with any numbering, any order, and any repetition of their events.

The fold of deploy/calls.py is compared with what is known to have happened, and the views with the
fold.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.calls import CallEvent, attempts_of
from simulator.view_fold import Row, call_event
from tests.support import view_rows
from tests.support.event_histories import manual_changes, repeated, retried_commands, splits
from tests.support.stack import Database
from tests.support.view_rows import view_differences

History = list[tuple[Row, int]]


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database.admin_url)
    yield made
    await made.close()


def issuer_numbers_retries(history: History) -> bool:
    return all(
        row["evidence"] >= 100
        for row, attempts in history
        if attempts and row["event_type"] == "command.issued"
    )


@given(history=retried_commands().filter(issuer_numbers_retries), data=st.data())
def test_each_event_is_of_the_try_that_it_tells_of_where_retries_are_issued_with_their_number(
    history: History, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(history))

    found = attempts_of([call_event(row) for row, _ in shuffled])

    assert found == [attempts for _, attempts in shuffled]


def test_an_end_reported_after_the_next_issue_is_of_the_try_before() -> None:
    events = [issued(0, 0), issued(5, 1), done(6), done(9)]

    assert attempts_of(events) == [0, 1, 0, 1]


def test_ends_of_three_tries_reported_after_all_were_issued_are_one_of_each() -> None:
    begins = [issued(at, at) for at in range(3)]
    ends = [done(at) for at in (5, 6, 7)]

    assert attempts_of(begins + ends) == [0, 1, 2, 0, 1, 2]


def test_a_try_known_by_its_end_alone_begins_just_after_the_end_before_it() -> None:
    events = [
        issued(0, 0),
        CallEvent("call.error", 3, None, "FAILED"),
        CallEvent("command.started", 4, None, "RUNNING"),
        done(7, 1),
    ]

    assert attempts_of(events) == [0, 0, 1, 1]


def test_a_worker_that_numbers_only_retries_has_a_first_try_too() -> None:
    events = [
        issued(0, None),
        CallEvent("command.started", 1, None, "RUNNING"),
        CallEvent("call.error", 3, None, "FAILED"),
        CallEvent("command.started", 4, 1, "RUNNING"),
        done(7, 1),
    ]

    assert attempts_of(events) == [0, 0, 0, 1, 1]


def test_ends_with_different_call_indexes_are_of_one_attempt() -> None:
    """The attempt before has no end of its own: nobody reported it."""
    events = [issued(0, 0), issued(5, 1), done(6, call_index=0), done(9, call_index=1)]

    assert attempts_of(events) == [0, 1, 1, 1]


def test_an_attempt_ends_with_the_last_call_of_its_command() -> None:
    """The second attempt is known by its end alone, and begins just after the first one's end."""
    events = [
        issued(0, 0),
        done(3, call_index=0),
        done(5, call_index=1),
        CallEvent("command.started", 6, None, "RUNNING"),
        CallEvent("command.failed", 9, 1, "FAILED"),
    ]

    assert attempts_of(events) == [0, 0, 0, 1, 1]


def issued(at_us: int, number: int | None) -> CallEvent:
    return CallEvent("command.issued", at_us, number, "PENDING")


def done(at_us: int, number: int | None = None, *, call_index: int = 0) -> CallEvent:
    return CallEvent("call.done", at_us, number, "COMPLETED", call_index=call_index)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=retried_commands(), data=st.data())
async def test_views_show_the_fold_of_a_command_in_any_order_and_number_of_its_reports(
    history: History, data: st.DataObject, connection: asyncpg.Connection
) -> None:
    rows = [row for row, _ in history]
    again = repeated(data.draw(st.lists(st.sampled_from(rows), max_size=2, unique_by=id)))
    shuffled = data.draw(st.permutations(rows + again))
    transaction = connection.transaction()
    await transaction.start()
    try:
        for batch in data.draw(splits(shuffled)):
            await view_rows.insert(connection, batch)
            assert await view_differences(connection) == {}
        for what, changed in data.draw(manual_changes(shuffled)):
            await (view_rows.update if what == "update" else view_rows.delete)(connection, changed)
            assert await view_differences(connection) == {}, what
    finally:
        await transaction.rollback()
