"""Identity: which events are one, which are two, and which were here before."""

import time
from collections.abc import Sequence, Set as AbstractSet
from typing import Any

import msgspec
import pytest

from normalizer.core.encoded_events import to_envelope
from normalizer.core.identity.collisions import MAX_SUBSTITUTE_IDS, substitute_ids
from normalizer.core.identity.coordinates import Coordinates, source_coordinates
from normalizer.core.identity.merge_flags import REPORTED_ELSEWHERE_FLAG, SHARES_ID_FLAG
from normalizer.core.identity.reconcile import reconcile
from normalizer.envelope import Envelope
from normalizer.snowflake import derive_id
from tests.support.factories import (
    EXECUTION_ID,
    RECORDED_MS,
    TOPIC,
    envelope,
    recorded_at,
    snowflake,
)
from tests.support.memory_log import FIRST_ASSIGNED, MemoryLog, row_id


def first_rule(row: Envelope) -> Any:
    return [one["rule"] for one in msgspec.json.decode(row.coercions or b"[]")]


def sibling(event_id: int = 5, number: int = 1) -> int:
    """The id of the event of that number beside the holder of an id."""
    return substitute_ids(event_id, EXECUTION_ID)[number - 1]


def derived(offset: int, salt: int = 0, **fields: Any) -> Envelope:
    """An event that brought no id."""
    return envelope(
        offset,
        event_id=derive_id(TOPIC, 0, 0, offset, 0, RECORDED_MS + offset, salt),
        evidence=210,
        **fields,
    )


async def test_new_events_are_stored_sorted_by_id_with_one_question() -> None:
    log = MemoryLog()

    write_plan = await reconcile([envelope(3), envelope(1), envelope(2)], log)

    assert [to_envelope(row).source_offset for row in write_plan.inserts] == [1, 2, 3]
    assert write_plan.placements == [("stored", snowflake(at)) for at in (3, 1, 2)]
    assert log.questions == 1


async def test_the_same_coordinates_are_a_duplicate_whatever_the_event_says_now() -> None:
    log = MemoryLog(envelope(7, status="COMPLETED"))

    outcomes = await log.take(envelope(7, status="FAILED", step="other", execution_id=5))

    assert outcomes == ["duplicate"]
    assert log.rows_by_id[snowflake(7)] == envelope(7)
    assert log.locked == []


@pytest.mark.parametrize("stored", [1, 2])
async def test_the_same_coordinates_are_a_duplicate_under_another_id(stored: int) -> None:
    log = MemoryLog(*(envelope(at, event_id=at + 1) for at in range(stored)))

    outcomes = await log.take(
        *(envelope(at, event_id=at + 100) for at in range(3)), dedup_horizon=3
    )

    assert outcomes == ["duplicate"] * stored + ["stored"] * (3 - stored)


async def test_a_report_read_again_is_a_duplicate_under_another_id() -> None:
    log = MemoryLog()
    reports = [envelope(at, event_id=5, error="e" * at or None) for at in range(3)]
    assert await log.take(*reports) == ["stored", "merged", "merged"]

    outcomes = await log.take(
        *(msgspec.structs.replace(one, event_id=6) for one in reports), dedup_horizon=3
    )

    assert outcomes == ["duplicate"] * 3
    assert log.rows_stored == 1


async def test_coordinates_below_the_dedup_horizon_are_looked_up_once() -> None:
    log = MemoryLog()

    await log.take(envelope(3), envelope(4), dedup_horizon=3)
    assert log.questions == 1
    await log.take(envelope(5), envelope(6), dedup_horizon=6)
    assert log.questions == 1 + 2


async def test_coordinates_that_come_twice_in_a_batch_are_one_record() -> None:
    log = MemoryLog()

    outcomes = await log.take(envelope(1), envelope(1, event_id=9), dedup_horizon=5)

    assert outcomes == ["stored", "duplicate"]


async def test_a_batch_reported_twice_asks_no_more_than_once_for_all() -> None:
    log = MemoryLog()

    await log.take(*(envelope(at, event_id=1 + at % 50) for at in range(100)))

    assert log.questions <= 2


async def test_the_rows_of_a_batch_are_locked_in_one_order() -> None:
    log = MemoryLog(*(envelope(at, event_id=at) for at in range(1, 9)))

    await log.take(*(envelope(100 - at, event_id=at, error="e") for at in (5, 2, 8, 1)))

    assert log.locked == [1, 2, 5, 8]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False])
async def test_two_events_with_one_id_are_two_rows(
    order: tuple[int, int], *, together: bool
) -> None:
    log = MemoryLog()
    events = [envelope(1, event_id=5, step="a"), envelope(2, event_id=5, step="b")]
    first, later = (events[one] for one in order)

    batches = [(first, later)] if together else [(first,), (later,)]
    outcomes = [outcome for batch in batches for outcome in await log.take(*batch)]

    assert outcomes == ["stored", "stored"]
    holder, moved = log.rows_by_id[5], log.rows_by_id[sibling()]
    assert (holder.step, moved.step) == (first.step, later.step)
    assert "event_id_conflict" in first_rule(moved)
    assert "event_id_conflict" not in first_rule(holder)
    assert log.rows_stored == 2


async def test_a_copy_that_meets_its_row_under_another_id_says_which_it_brought() -> None:
    """The row came from elsewhere, where its id was no conflict."""
    first, other = envelope(1, event_id=5, step="a"), envelope(2, event_id=5, step="b")
    imported = msgspec.structs.replace(other, event_id=sibling(), source_topic="file:1")
    log = MemoryLog(first, imported)

    outcomes = [*await log.take(other), *await log.take(other)]

    assert outcomes == ["merged", "duplicate"]
    assert first_rule(log.rows_by_id[sibling()]) == ["event_id_conflict"]
    assert log.rows_by_id[5].merge_flags == SHARES_ID_FLAG


async def test_many_events_with_one_id_are_that_many_rows_and_stay_so() -> None:
    log = MemoryLog()
    events = [envelope(at, event_id=5, command_id=f"c{at}") for at in range(1 + MAX_SUBSTITUTE_IDS)]

    outcomes = await log.take(*events)
    again = [outcome for event in reversed(events) for outcome in await log.take(event)]
    copies = [msgspec.structs.replace(one, source_offset=99) for one in reversed(events)]
    reported_again = [outcome for one in copies for outcome in await log.take(one)]

    assert outcomes == ["stored"] * 9
    assert again == reported_again == ["duplicate"] * 9
    assert log.rows_by_id.keys() == {5, *substitute_ids(5, EXECUTION_ID)}


async def test_an_id_of_more_events_than_nine_names_none_of_the_others() -> None:
    """Then an event is known by its coordinates, like one that brought no id."""
    log = MemoryLog()
    events = [envelope(at, event_id=5, command_id=f"c{at}") for at in range(11)]

    outcomes = await log.take(*events)
    again = [outcome for event in reversed(events) for outcome in await log.take(event)]
    elsewhere = await log.take(envelope(50, event_id=5, command_id="c10"))

    assert outcomes == ["stored"] * 11
    assert again == ["duplicate"] * 11
    assert elsewhere == ["stored"]
    for at in (9, 10):
        assert "event_id_conflict" in first_rule(log.rows_by_id[row_id(derived(at))])


async def test_a_report_goes_to_the_row_of_its_command_before_that_of_its_step() -> None:
    log = MemoryLog()
    await log.take(
        envelope(1, event_id=5, step="a", command_id="x"),
        envelope(2, event_id=5, step="a", command_id="y"),
        envelope(3, event_id=5, step="b"),
    )

    await log.take(
        envelope(4, event_id=5, step="", command_id="y", error="of y"),
        envelope(5, event_id=5, step="b", error="of b"),
    )

    assert [log.rows_by_id[one].error for one in (5, sibling(), sibling(number=2))] == [
        None,
        "of y",
        "of b",
    ]


async def test_the_order_decides_which_row_takes_a_report_that_names_nothing() -> None:
    """It is marked in both orders, as docs/guarantees.md says."""
    a = envelope(1, event_id=5, step="a", command_id="x")
    b = envelope(2, event_id=5, step="b", command_id="y")
    silent = envelope(3, event_id=5, step="", error="whose?")
    taken = []
    for order in ((a, b, silent), (b, silent, a)):
        log = MemoryLog()
        for report in order:
            await log.take(report)
        (row,) = (row for row in log.rows_by_id.values() if row.error == "whose?")
        assert "ambiguous_report" in first_rule(row)
        taken.append(row.step)

    assert taken == ["a", "b"]


async def test_a_holder_that_is_gone_leaves_its_siblings_as_they_are() -> None:
    log = MemoryLog()
    await log.take(envelope(1, event_id=5, step="a"), envelope(2, event_id=5, step="b"))
    before = log.rows_by_id[sibling()]
    del log.rows_by_id[5]

    assert await log.take(envelope(3, event_id=5, step="a")) == ["stored"]
    assert log.rows_by_id[sibling()] == before


@pytest.mark.parametrize("id_taken", [True, False])
async def test_an_id_without_a_salt_left_is_assigned_and_found_again(*, id_taken: bool) -> None:
    """Whether eight events share the id, or it has no id and its derived ids are taken."""
    event = envelope(9, event_id=5, step="z") if id_taken else derived(9)
    taken = [row_id(derived(9, salt)) for salt in range(4)]
    taken += [5, *substitute_ids(5, EXECUTION_ID)] if id_taken else []
    log = MemoryLog(
        *(envelope(50 + at, event_id=one, step=f"s{at}") for at, one in enumerate(taken))
    )

    outcomes = [*await log.take(event), *await log.take(event)]

    assert outcomes == ["stored", "duplicate"]
    assert log.assigned_ids == {source_coordinates(event): FIRST_ASSIGNED}
    assert ("event_id_conflict" in first_rule(log.rows_by_id[FIRST_ASSIGNED])) == id_taken


async def test_an_id_that_was_assigned_and_whose_row_is_not_there_takes_the_event() -> None:
    """Assigned by a transaction that changed only other rows, before the process was killed."""
    event = derived(9)
    log = MemoryLog(
        *(
            envelope(50 + salt, event_id=row_id(derived(9, salt)), step=f"s{salt}")
            for salt in range(4)
        )
    )
    log.assigned_ids[source_coordinates(event)] = FIRST_ASSIGNED

    assert await log.take(event) == ["stored"]
    assert source_coordinates(log.rows_by_id[FIRST_ASSIGNED]) == source_coordinates(event)


async def test_a_row_that_vanishes_between_two_questions_is_stored_again() -> None:
    class Vanishing(MemoryLog):
        async def select_for_update(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
            return dict.fromkeys(event_ids[:0], envelope())

    log = Vanishing(envelope(1))

    write_plan = await reconcile([envelope(2, event_id=snowflake(1))], log)

    assert [to_envelope(row).source_offset for row in write_plan.inserts] == [2]


async def test_a_batch_that_died_after_its_merge_merges_without_a_second_note() -> None:
    class Interrupted(MemoryLog):
        async def find_row_ids_merged_into(
            self, coordinates_set: AbstractSet[Coordinates]
        ) -> dict[Coordinates, int]:
            return dict.fromkeys(coordinates_set, snowflake(1))

    report = envelope(2, event_id=snowflake(1))

    write_plan = await reconcile([report], Interrupted(envelope(1)))

    assert write_plan.placements == [("merged", snowflake(1))]
    assert (write_plan.updates, write_plan.merged_records) == ([], [])


async def test_a_copy_asks_for_no_digest_and_two_that_differ_ask_once() -> None:
    log = MemoryLog(*(envelope(at, context=b'{"a":[%d]}' % at, event_id=at + 1) for at in range(9)))

    await log.take(
        *(envelope(20 + at, context=b'{"a":[%d]}' % at, event_id=at + 1) for at in range(9))
    )
    assert log.questions == 3  # ids, rows, and whether one was merged before
    await log.take(*(envelope(40 + at, context=b'{"b":[]}', event_id=at + 1) for at in range(9)))
    assert log.questions == 6


async def test_members_that_differ_in_a_batch_are_requested_together() -> None:
    log = MemoryLog(
        *(envelope(at, meta=b'{"a":[%d],"b":1}' % at, event_id=at + 1) for at in range(9))
    )

    outcomes = await log.take(
        *(envelope(20 + at, meta=b'{"a":[0],"b":1}', event_id=at + 1) for at in range(9))
    )

    assert outcomes.count("duplicate") == 1
    assert log.questions == 4


async def test_digests_of_later_reports_are_requested_together() -> None:
    """The first report of each event has no result, no other key and no coercion."""
    log = MemoryLog()

    await log.take(
        *(envelope(at, event_id=at + 1) for at in range(9)),
        *(
            envelope(
                9 * report + at,
                event_id=at + 1,
                result=b'{"a":[%d,%d]}' % (at, report),
                extra=b'{"b":[%d,%d]}' % (at, report),
                coercions=b'[{"rule":"opaque_id","field":"%d"}]' % report,
            )
            for report in range(1, 4)
            for at in range(9)
        ),
    )

    assert log.rows_stored == 9
    assert log.questions == 2  # ids, and digests


async def test_values_that_earlier_batches_kept_are_requested_together_and_once() -> None:
    """Each row keeps two of three results and of three errors."""
    log = MemoryLog()
    for report in range(3):
        await log.take(
            *(
                envelope(
                    9 * report + at,
                    event_id=at + 1,
                    result=b'{"a":[%d,%d]}' % (at, report),
                    error=f'an "error" of {report}',
                )
                for at in range(9)
            )
        )
    before = log.questions

    await log.take(*(envelope(50 + at, event_id=at + 1, duration=2.0) for at in range(9)))

    assert log.questions - before == 3  # ids, rows, and digests


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
async def test_a_derived_id_that_is_taken_is_derived_again_with_a_salt(taken: int) -> None:
    event = derived(1)
    others = (
        envelope(50 + salt, event_id=row_id(derived(1, salt)), step="other")
        for salt in range(taken)
    )
    log = MemoryLog(*others)

    outcomes = [*await log.take(event), *await log.take(event)]

    assert outcomes == ["stored", "duplicate"]
    assert log.rows_by_id[row_id(derived(1, taken))] == derived(1, taken)


async def test_two_records_without_ids_are_two_events_even_where_their_hashes_meet() -> None:
    seen: dict[int, int] = {}
    for offset in range(10_000):
        derived_id = derive_id(TOPIC, 0, 0, offset, 0, RECORDED_MS)
        if derived_id in seen:
            break
        seen[derived_id] = offset
    else:
        pytest.fail("no two hashes met")
    one, two = (
        envelope(at, event_id=derived_id, recorded_at=recorded_at())
        for at in (seen[derived_id], offset)
    )
    log = MemoryLog()

    outcomes = [*await log.take(one, two), *await log.take(two), *await log.take(one)]

    assert outcomes == ["stored", "stored", "duplicate", "duplicate"]
    assert log.rows_by_id[derive_id(TOPIC, 0, 0, offset, 0, RECORDED_MS, 1)].source_offset == offset


@pytest.mark.parametrize("imported_first", [True, False])
async def test_an_imported_row_meets_the_record_it_was_derived_from(
    *, imported_first: bool
) -> None:
    record = derived(1, error="e")
    imported = msgspec.structs.replace(
        record, source_topic="file:0011223344556677", source_offset=40, recorded_at=None, error=None
    )
    log = MemoryLog()
    events = [imported, record] if imported_first else [record, imported]

    outcomes = [outcome for event in (*events, *events) for outcome in await log.take(event)]

    assert log.rows_stored == 1
    assert outcomes[0] == "stored"
    assert outcomes[2:] == ["duplicate", "duplicate"]
    assert log.rows_by_id[row_id(record)].error == "e"


async def test_another_event_under_a_derived_looking_id_is_kept_beside_it() -> None:
    record = derived(1)
    foreign = envelope(9, event_id=record.event_id, step="other", source_topic="elsewhere")
    log = MemoryLog()

    outcomes = [*await log.take(record), *await log.take(foreign), *await log.take(foreign)]

    assert outcomes == ["stored", "stored", "duplicate"]
    assert log.rows_by_id[sibling(row_id(record))].step == "other"


async def test_an_event_that_brings_the_id_of_a_conflict_in_the_same_batch_overwrites_nothing() -> (
    None
):
    first = envelope(1, event_id=5, step="a")
    conflicting = envelope(2, event_id=5, step="b")
    bringing = envelope(3, event_id=sibling(), step="c")
    log = MemoryLog()

    outcomes = await log.take(first, conflicting, bringing)

    assert outcomes == ["stored"] * 3
    assert sorted(row.step for row in log.rows_by_id.values()) == ["a", "b", "c"]


async def test_an_event_without_any_id_has_no_row() -> None:
    with pytest.raises(ValueError, match="without an id"):
        await reconcile([envelope(event_id=None)], MemoryLog())


async def test_a_large_row_is_decoded_once_for_all_events_that_are_compared_with_it() -> None:
    """A record may have 10,000 events: the heartbeat of the process waits for all of them."""
    own = msgspec.json.encode({f"key{n}": n for n in range(100_000)} | {"conflicting_values": 1})
    log = MemoryLog(envelope(1, event_id=5, step="a", extra=own))
    events = [envelope(9, event_id=5, step=f"s{n}", source_index=n) for n in range(500)]
    begun_s = time.process_time()

    write_plan = await reconcile(events, log)

    assert {placed for placed, _ in write_plan.placements} == {"stored"}
    assert time.process_time() - begun_s < 1


async def test_identical_report_in_another_log_is_a_duplicate_and_flags_its_row() -> None:
    row = envelope(1)
    log = MemoryLog(row)
    report = msgspec.structs.replace(row, source_partition=1)

    assert await log.take(report, report) == ["duplicate", "duplicate"]
    assert log.rows_by_id[row.event_id or 0].merge_flags == REPORTED_ELSEWHERE_FLAG
    assert (await reconcile([report], log)).updates == []
