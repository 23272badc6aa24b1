"""Attempts are found with any numbering, any order, and any repetition of their events.

The fold of deploy/calls.py is compared with what is known to have happened, and the views with the
fold.
"""

import re
from collections.abc import Iterable
from itertools import combinations, permutations
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from deploy.calls import CallEvent, calls_of_command, resolve_attempts
from normalizer.core.evidence import Evidence
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from simulator.view_fold import Row, call_event, fold_execution
from tests.support import view_rows
from tests.support.canonical_topic import to_row
from tests.support.event_histories import (
    manual_changes,
    partly_late,
    repeated,
    retried_commands,
    splits,
)
from tests.support.simulator_pipeline import MemoryDatabase
from tests.support.view_rows import view_differences

RESOLVE_ATTEMPTS: Final = Path(__file__).parents[2] / "migrations/functions/resolve_attempts.sql"
History = list[tuple[Row, int]]

_normalize = Normalizer().normalize


def issuer_numbers_retries(history: History) -> bool:
    return all(
        Evidence.unpack(row["evidence"]).are_attempts_declared
        for row, attempts in history
        if attempts and row["event_type"] == "command.issued"
    )


def lies_in_one_log(history: History) -> bool:
    """With an end of each try but the last, which may run."""
    tries = {attempts for _, attempts in history}
    ended = {attempts for row, attempts in history if call_event(row).end_class}
    return all(row["recorded_at"] for row, _ in history) and tries - ended <= {max(tries)}


@given(
    history=retried_commands().filter(issuer_numbers_retries).filter(lies_in_one_log),
    data=st.data(),
)
def test_each_event_is_of_its_try_where_retries_are_issued_with_their_number_in_one_log(
    history: History, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(history))

    found = resolve_attempts([call_event(row) for row, _ in shuffled])

    assert found == [attempts for _, attempts in shuffled]


SAID: Final = re.compile(r"(command )?(\w+)(?: #(\d))?(?: @(-?\d+))?(?: call (\d))?( late)?")
KINDS: Final = {
    "issued": ("command.issued", "PENDING"),
    "claimed": ("command.claimed", "RUNNING"),
    "started": ("command.started", "RUNNING"),
    "failed": ("call.error", "FAILED"),
    "done": ("call.done", "COMPLETED"),
    "command failed": ("command.failed", "FAILED"),
    "command completed": ("command.completed", "COMPLETED"),
}


def example_events(text: str) -> list[CallEvent]:
    """The events of an example, here and in resolve_attempts.sql."""
    has_places = text.startswith("log: ")
    events = []
    for offset, said in enumerate(text.removeprefix("log: ").split(", ")):
        found = SAID.fullmatch(said)
        assert found is not None, said
        by_command, word, number, at_us, call_index, late = found.groups()
        event_type, status = KINDS[f"{by_command or ''}{word}"]
        events.append(
            CallEvent(
                event_type,
                10 * offset if at_us is None else int(at_us),
                None if number is None else int(number),
                status,
                call_index=int(call_index or 0),
                place=f"t:0:0:{offset}:0" if has_places and not late else None,
            )
        )
    return events


def test_the_examples_of_each_rule_have_the_attempts_that_it_says() -> None:
    text = re.sub(r"\n-- +(?=->)", " ", RESOLVE_ATTEMPTS.read_text())
    examples = re.findall(r"^-- {12}(\S.*) -> ([\d, ]+)$", text, re.MULTILINE)

    assert len(examples) == text.count(" -> ") == 10
    for events, attempts in examples:
        found = resolve_attempts(example_events(events))
        assert ", ".join(map(str, found)) == attempts, events


ATTEMPTS: Final = """
an end reported after the next issue is of the attempt before:
    issued #0 @0, issued #1 @5, done @6, done @9 -> 0, 1, 0, 1
ends of three attempts reported after all were issued are one of each:
    issued #0 @0, issued #1 @1, issued #2 @2, done @5, done @6, done @7 -> 0, 1, 2, 0, 1, 2
an attempt known by its end alone begins just after the end before it:
    issued #0 @0, failed @3, started @4, done #1 @7 -> 0, 0, 1, 1
a worker that numbers only retries has a first attempt too:
    issued @0, started @1, failed @3, started #1 @4, done #1 @7 -> 0, 0, 0, 1, 1
# Nobody reported the end of the attempt before.
ends with different call indexes are of one attempt:
    issued #0 @0, issued #1 @5, done @6, done @9 call 1 -> 0, 1, 1, 1
# The second attempt is known by its end alone, and begins just after the first one's end.
an attempt ends with the last call of its command:
    issued #0 @0, done @3, done @5 call 1, started @6, command failed #1 @9 -> 0, 0, 0, 1, 1
an end that is sent twice ends no attempt before its next call:
    issued #0 @0, done @3, done @3, done @5 call 1, command failed #1 @9 -> 0, 0, 0, 0, 1
an issue that is sent twice is one attempt:
    issued @0, issued @0, failed @5, done @9 -> 0, 0, 0, 0
a completed command is of another attempt than a failed call:
    issued #0 @0, issued #1 @100, failed @105, command completed @107 -> 0, 1, 0, 1
# Only failures are retried. By the clocks, both ends are of the retry, or of the first attempt.
a completion after both issues is of the last attempt:
    issued #0 @0, issued #1 @5, done @6, failed @9 -> 0, 1, 1, 0
a completion before both issues is of the last attempt:
    issued #0 @0, issued #1 @5, done @1, failed @2 -> 0, 1, 1, 0
# A call that failed and one that completed are of two attempts, whatever their types.
a call and its command end once each in an attempt:
    issued #0 @0, issued #1 @5, failed @6,
    command failed @7, done @9, command completed @10 -> 0, 1, 0, 0, 1, 1
# The first attempt's worker is ahead of the issuer, and the retry's is behind it.
the log decides between clocks that disagree:
    log: issued #0 @0, failed @60, issued #1 @10, done @-35 -> 0, 0, 1, 1
ends that are too few tell nothing:
    issued #0 @0, issued #1 @100, done @5, command completed @6 -> 0, 1, 0, 0
ends that name two attempts at once tell nothing:
    issued #0 @0, issued #1 @100, failed @120,
    done #1 @-5, command completed #0 @-4 -> 0, 1, 0, 1, 0
# The failure is late in the log, but it has a place there.
an end after a claim or a start is of the next attempt:
    log: issued #0 @0, started @1, issued #1 @100,
    started @104, done @108, command failed @6 -> 0, 0, 1, 1, 1, 0
an end after a claim or a start is of the next attempt without a log too:
    issued #0 @0, started @1, issued #1 @100,
    started @104, done @108, command failed @6 -> 0, 0, 1, 1, 1, 0
# By the clocks of the workers, all of it happened before the retry was issued.
a retry whose issue comes late in the log begins with its claim:
    log: issued #0 @0, claimed @1, started @2, failed @5,
    claimed @14, started @15, command completed @20, issued #1 @100 -> 0, 0, 0, 0, 1, 1, 1, 1
a retry whose issue comes late and has no place begins with its claim:
    log: issued #0 @0, claimed @1, started @2, failed @5,
    claimed @14, started @15, command completed @20, issued #1 @100 late -> 0, 0, 0, 0, 1, 1, 1, 1
# Nobody reported an end of the middle one of three attempts.
a late issue takes no event of the attempt after it:
    log: issued #0 @0, claimed @1, failed @5, claimed @14, issued #2 @200,
    claimed @214, command completed @220, issued #1 @-100 late -> 0, 0, 0, 1, 2, 2, 2, 1
# Its clock says that it's of the other attempt, but the clock of each producer is wrong.
an end without a place is of the first attempt if that lacks one:
    log: issued #0 @0, started @-25, issued #1 @10,
    started @-30, done @20, command failed @50 late -> 0, 0, 1, 1, 1, 0
an end without a place is of the retry if that lacks one:
    log: issued #0 @200, started @-40, failed @60,
    issued #1 @300, started @50, command failed @260 late -> 0, 0, 0, 1, 1, 1
# The retry still runs.
an end without a place is of no attempt that was claimed after it:
    log: issued #0 @0, started @2, failed @50,
    issued #1 @100, started @102, command failed @52 late -> 0, 0, 0, 1, 1, 0
# The failure of the first attempt comes again, after the retry was claimed.
an end that comes again between a claim and its start begins no attempt:
    log: issued #0 @0, claimed @1, started @2, failed @5,
    issued #1 @10, claimed @12, failed @5, started @13, failed @15,
    issued #2 @20, claimed @22, started @23, command completed @25
    -> 0, 0, 0, 0, 1, 1, 0, 1, 1, 2, 2, 2, 2
# Its command fails after the retry was claimed.
an end of a command between a claim and its start begins no attempt:
    log: issued #0 @0, claimed @1, started @2, failed @5,
    issued #1 @10, claimed @12, command failed @6, started @13, failed @15,
    issued #2 @20, claimed @22, started @23, command completed @25
    -> 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2
an end with a number stays in its attempt:
    issued #0 @1, issued #1 @2, failed #1 @3, done #1 @4 -> 0, 1, 1, 1
# The failure was reported a minute late, so the log has it after the retry.
a report without a place is ordered by its clock:
    log: issued #0 @0, issued #1 @100, done @150, failed @5 late -> 0, 1, 1, 0
retries that nobody numbers are counted by their issues:
    issued @0, started @2, failed @5, issued @20, started @22, failed @25,
    issued @40, started @42, done @45 -> 0, 0, 0, 1, 1, 1, 2, 2, 2
# A second worker took the command after the first one lost its lease.
a claim or a start alone begins no attempt:
    issued @0, started @2, started @30, done @35 -> 0, 0, 0, 0
# Over several logs. The first worker's clock is ahead of the issuer's, the second's behind.
an end after the start of a next call is of the same attempt:
    issued #0 @0, issued #1 @100, started @106, started @108, started @-9, started @-7,
    done @107, failed @109 call 1, done @-8, done @-6 call 1 -> 0, 1, 1, 1, 0, 0, 0, 0, 1, 1
"""
"""An example of each claim: the events of a command, and the attempt of each event."""


EXAMPLES: Final = re.findall(r"^(\w.*):\n((?: {4}.*\n)+)", ATTEMPTS, re.MULTILINE)


@pytest.mark.parametrize(("claim", "example"), EXAMPLES)
def test_each_event_is_of_its_attempt(claim: str, example: str) -> None:
    assert len(EXAMPLES) == ATTEMPTS.count(" -> ")
    events, attempts = " ".join(example.split()).split(" -> ")

    assert ", ".join(map(str, resolve_attempts(example_events(events)))) == attempts, claim


def test_the_start_of_a_next_call_begins_no_attempt() -> None:
    """The retry is queued, claimed, or running."""
    events = example_events(
        "log: issued #0 @0, claimed @1, started @2, done @3, started @4, failed @5 call 1, "
        "command failed @6, issued #1 @10, claimed @12, started @13"
    )

    for read in range(8, len(events) + 1):
        calls = calls_of_command(events[:read])

        assert [call.status for call in calls] == ["FAILED", None]
        assert calls[1].begun_us == 10


@pytest.mark.parametrize(("done", "failed"), [("", ""), ("", " #0"), (" #1", "")])
def test_ends_tell_their_attempts_over_several_logs(done: str, failed: str) -> None:
    """The clock of each worker is wrong, and some ends of one worker may name their attempt."""
    events = example_events(
        f"issued #0 @0, issued #1 @100, done{done} @-35, command completed @-34, failed @160, "
        f"command failed{failed} @161"
    )
    spread = [event._replace(place=f"log:0:{at}:7:0") for at, event in enumerate(events)]

    assert resolve_attempts(spread) == [0, 1, 1, 1, 0, 0]
    assert resolve_attempts(events) == [0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("events", "attributions"),
    [
        ("done @5", ["only"]),
        ("done #0 @5", ["declared"]),
        # The issue names the retry, and the end doesn't.
        ("issued #1 @1, done @5", ["inferred"]),
        # It runs, and its issue names it.
        ("issued #1 @1", ["declared"]),
        # The end that decides names it, and another end doesn't.
        ("failed #1 @5, command completed @6", ["declared"]),
        # Nobody numbers the retry.
        ("issued @0, failed @5, issued @20, done @25", ["inferred", "inferred"]),
        ("issued @0, started @2, started @30, done @35", ["inferred"]),
    ],
)
def test_attribution_says_how_the_number_is_known(events: str, attributions: list[str]) -> None:
    calls = calls_of_command(example_events(events))

    assert [call.attribution for call in calls] == attributions


def reports(partitions: int) -> list[RawRecord]:
    """A failure, and a retry that succeeds by a clock that is behind: reports of each partition."""
    happened = [
        ("command.issued", "PENDING", 0, {"attempts": 0}),
        ("call.error", "FAILED", 400, {}),
        ("command.issued", "PENDING", 300, {"attempts": 1}),
        ("command.completed", "COMPLETED", 100, {}),
    ]
    return [
        RawRecord(
            value=msgspec.json.encode({
                "event_id": 1_000 + number, "execution_id": 7, "event_type": kind, "step": "a",
                "status": status, "created_at": f"2026-07-10T09:00:00.{at_ms:03}Z",
                "context": {"command_id": "7:a:1"}, "meta": meta | {"by": partition},
            }),
            topic="noetl.events", partition=partition, offset=10 + number,
            recorded_ms=1_783_674_000_500 + number,
        )
        for number, (kind, status, at_ms, meta) in enumerate(happened)
        for partition in range(partitions)
    ]  # fmt: skip


async def calls_after(records: Iterable[RawRecord]) -> list[tuple[int, str | None]]:
    """The calls of records that were written one by one, in this order."""
    database = MemoryDatabase()
    for record in records:
        await database.write([(record, _normalize(record))])
    _, calls = fold_execution(list(map(to_row, database.stored())))
    return sorted((call["attempts"], call["status"]) for call in calls)


async def test_backfilled_and_redriven_records_make_the_same_calls() -> None:
    """Each record may be read last, or a half of them by a job before or after the others."""
    orders = permutations(reports(partitions=1))

    found = {tuple(await calls_after(order)) for order in orders}

    assert found == {((0, "FAILED"), (1, "COMPLETED"))}


async def test_every_interleaving_of_two_reports_of_each_event_makes_the_same_calls() -> None:
    both = reports(partitions=2)
    found = set()
    for places in combinations(range(len(both)), len(both) // 2):
        here, there = (iter([one for one in both if one.partition == n]) for n in range(2))
        order = [next(here if place in places else there) for place in range(len(both))]
        found.add(tuple(await calls_after(order)))

    assert len(found) == 1


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=retried_commands(), data=st.data())
async def test_views_show_the_fold_of_a_command_in_any_order_and_number_of_its_reports(
    history: History, data: st.DataObject, connection: asyncpg.Connection
) -> None:
    rows = data.draw(partly_late([row for row, _ in history]))
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
