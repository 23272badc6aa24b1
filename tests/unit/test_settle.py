"""Identity: which events are one, which are two, and which were here before."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec
import pytest

from normalizer.core.join import conflict_id, rekeyed
from normalizer.core.settle import Place, Settled, place_of, settle
from normalizer.envelope import Envelope
from normalizer.snowflake import derive_id
from tests.factories import RECORDED_MS, TOPIC, envelope, recorded_at, snowflake

FIRST_ASSIGNED: Final = 900


class Log:
    """The stored rows in memory, written as the store writes them; remembers what was asked."""

    def __init__(self, *rows: Envelope) -> None:
        self.rows_by_id = {_id(row): row for row in rows}
        self.assigned_ids: dict[Place, int] = {}
        self.tellings: dict[Place, int] = {}
        self.locked: list[int] = []
        self.questions = 0

    async def places(self, event_ids: Sequence[int]) -> dict[int, Place]:
        assert list(event_ids) == sorted(set(event_ids))
        self.questions += 1
        return {one: place_of(self.rows_by_id[one]) for one in event_ids if one in self.rows_by_id}

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        assert list(event_ids) == sorted(set(event_ids))
        self.questions += 1
        found = {one: self.rows_by_id[one] for one in event_ids if one in self.rows_by_id}
        self.locked += found
        return found

    async def at(self, places: AbstractSet[Place]) -> dict[Place, int]:
        self.questions += 1
        stored = {place_of(row): event_id for event_id, row in self.rows_by_id.items()}
        return {place: one for place, one in (stored | self.tellings).items() if place in places}

    async def assigned(self, place: Place) -> int | None:
        return self.assigned_ids.get(place)

    async def assign(self, place: Place) -> int:
        assert place not in self.assigned_ids
        self.assigned_ids[place] = FIRST_ASSIGNED + len(self.assigned_ids)
        return self.assigned_ids[place]

    async def take(self, *events: Envelope, reached: int = 0) -> list[str]:
        """Settle a batch and write it; gives each event's fate."""
        settled = await settle(events, self, {(TOPIC, 0, 0): reached} if reached else {})
        _check(settled, events)
        for row in settled.new:
            assert _id(row) not in self.rows_by_id, "the database would refuse it"
            self.rows_by_id[_id(row)] = row
        for row in settled.changed:
            assert _id(row) in self.locked, "changed without a lock"
            self.rows_by_id[_id(row)] = row
        self.tellings |= dict(settled.tellings)
        return [fate for fate, _ in settled.fates]

    @property
    def rows_stored(self) -> int:
        return len(self.rows_by_id)


def _check(settled: Settled, events: Sequence[Envelope]) -> None:
    """What every settled batch promises."""
    for rows in (settled.new, settled.changed):
        ids = [_id(row) for row in rows]
        assert ids == sorted(set(ids))
    assert len(settled.fates) == len(events)
    assert [fate for fate, _ in settled.fates].count("stored") == len(settled.new)


def _id(row: Envelope) -> int:
    assert row.event_id is not None
    return row.event_id


def rule_of(row: Envelope) -> Any:
    return [one["rule"] for one in msgspec.json.decode(row.coercions or b"[]")]


def derived(offset: int, salt: int = 0, **fields: Any) -> Envelope:
    """An event that brought no id."""
    return envelope(
        offset,
        event_id=derive_id(TOPIC, 0, 0, offset, 0, RECORDED_MS + offset, salt),
        evidence=210,
        **fields,
    )


async def test_new_events_are_stored_sorted_by_id_with_one_question() -> None:
    log = Log()

    settled = await settle([envelope(3), envelope(1), envelope(2)], log)

    assert [row.source_offset for row in settled.new] == [1, 2, 3]
    assert settled.fates == [("stored", snowflake(at)) for at in (3, 1, 2)]
    assert log.questions == 1


async def test_the_same_coordinates_are_a_duplicate_whatever_the_event_says_now() -> None:
    log = Log(envelope(7, status="COMPLETED"))

    fates = await log.take(envelope(7, status="FAILED", step="other", execution_id=5))

    assert fates == ["duplicate"]
    assert log.rows_by_id[snowflake(7)] == envelope(7)
    assert log.locked == []


@pytest.mark.parametrize("told", [1, 2])
async def test_the_same_coordinates_are_a_duplicate_under_another_id(told: int) -> None:
    log = Log(*(envelope(at, event_id=at + 1) for at in range(told)))

    fates = await log.take(*(envelope(at, event_id=at + 100) for at in range(3)), reached=3)

    assert fates == ["duplicate"] * told + ["stored"] * (3 - told)


async def test_a_telling_read_again_is_a_duplicate_under_another_id() -> None:
    log = Log()
    tellings = [envelope(at, event_id=5, error="e" * at or None) for at in range(3)]
    assert await log.take(*tellings) == ["stored", "joined", "joined"]

    fates = await log.take(
        *(msgspec.structs.replace(one, event_id=6) for one in tellings), reached=3
    )

    assert fates == ["duplicate"] * 3
    assert log.rows_stored == 1


async def test_what_was_reached_is_asked_for_once_and_what_is_beyond_never() -> None:
    log = Log()

    await log.take(envelope(3), envelope(4), reached=3)
    assert log.questions == 1
    await log.take(envelope(5), envelope(6), reached=6)
    assert log.questions == 1 + 2


async def test_coordinates_that_come_twice_in_a_batch_are_one_record() -> None:
    log = Log()

    fates = await log.take(envelope(1), envelope(1, event_id=9), reached=5)

    assert fates == ["stored", "duplicate"]


async def test_one_event_told_twice_in_one_batch_is_one_row() -> None:
    log = Log()

    fates = await log.take(envelope(1, error=None), envelope(2, event_id=snowflake(1), error="e"))

    assert fates == ["stored", "joined"]
    assert log.rows_by_id[snowflake(1)].error == "e"
    assert log.rows_by_id[snowflake(1)].source_offset == 1


async def test_one_event_told_twice_in_two_batches_is_one_row() -> None:
    log = Log(envelope(1))

    fates = await log.take(envelope(2, event_id=snowflake(1), error="e"))

    assert fates == ["joined"]
    assert log.rows_by_id[snowflake(1)].error == "e"
    assert log.locked == [snowflake(1)]


async def test_a_telling_that_adds_nothing_is_a_duplicate() -> None:
    log = Log(envelope(1, error="e"))

    fates = await log.take(envelope(2, event_id=snowflake(1)))

    assert fates == ["duplicate"]


async def test_three_tellings_over_two_batches_are_one_row() -> None:
    log = Log()
    one = envelope(1, event_id=5, error="e")
    two = envelope(2, event_id=5, worker_id="w")
    three = envelope(3, event_id=5, duration=2.0)

    fates = [*await log.take(one, two), *await log.take(three, one, two, three)]

    assert fates == ["stored", "joined", "joined", "duplicate", "duplicate", "duplicate"]
    row = log.rows_by_id[5]
    assert (row.error, row.worker_id, row.duration) == ("e", "w", 2.0)


async def test_a_batch_told_twice_asks_no_more_than_once_for_all() -> None:
    log = Log()

    await log.take(*(envelope(at, event_id=1 + at % 50) for at in range(100)))

    assert log.questions <= 2


async def test_the_rows_of_a_batch_are_locked_in_one_order() -> None:
    log = Log(*(envelope(at, event_id=at) for at in range(1, 9)))

    await log.take(*(envelope(100 - at, event_id=at, error="e") for at in (5, 2, 8, 1)))

    assert log.locked == [1, 2, 5, 8]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False])
async def test_two_events_with_one_id_are_two_rows(
    order: tuple[int, int], *, together: bool
) -> None:
    log = Log()
    events = [envelope(1, event_id=5, step="a"), envelope(2, event_id=5, step="b")]
    first, later = (events[one] for one in order)

    batches = [(first, later)] if together else [(first,), (later,)]
    fates = [fate for batch in batches for fate in await log.take(*batch)]

    assert fates == ["stored", "stored"]
    assert log.rows_by_id[5] == first
    moved = log.rows_by_id[conflict_id(later, 0)]
    assert moved.step == later.step
    assert rule_of(moved) == ["event_id_conflict"]
    assert log.rows_stored == 2


async def test_copies_of_a_conflicting_event_meet_it() -> None:
    log = Log()
    other = envelope(2, event_id=5, step="b")

    await log.take(envelope(1, event_id=5, step="a"), other)
    fates = await log.take(
        other,
        envelope(3, event_id=5, step="b", error="e"),
        envelope(4, event_id=5, step="a", error="f"),
    )

    assert fates == ["duplicate", "joined", "joined"]
    assert log.rows_by_id[conflict_id(other, 0)].error == "e"
    assert log.rows_by_id[5].error == "f"
    assert log.rows_stored == 2


async def test_a_copy_that_meets_its_row_under_another_id_says_which_it_brought() -> None:
    """The row came from elsewhere, where its id was no conflict."""
    first, other = envelope(1, event_id=5, step="a"), envelope(2, event_id=5, step="b")
    imported = msgspec.structs.replace(other, event_id=conflict_id(other, 0), source_topic="file:1")
    log = Log(first, imported)

    fates = [*await log.take(other), *await log.take(other)]

    assert fates == ["joined", "duplicate"]
    assert rule_of(log.rows_by_id[conflict_id(other, 0)]) == ["event_id_conflict"]


async def test_many_events_with_one_id_are_that_many_rows_and_stay_so() -> None:
    log = Log()
    events = [envelope(at, event_id=5, worker_id=f"w{at}") for at in range(8)]

    fates = await log.take(*events)
    again = [fate for event in reversed(events) for fate in await log.take(event)]

    assert fates == ["stored"] * 8
    assert again == ["duplicate"] * 8
    assert log.rows_stored == 8
    assert len(log.assigned_ids) == 3


async def test_an_id_without_a_salt_left_is_assigned_and_found_again() -> None:
    event = envelope(9, event_id=5, step="z")
    taken = [5, *(conflict_id(event, salt) for salt in range(4))]
    log = Log(*(envelope(at, event_id=one, step="a") for at, one in enumerate(taken)))

    fates = [*await log.take(event), *await log.take(event)]

    assert fates == ["stored", "duplicate"]
    assert log.assigned_ids == {place_of(event): FIRST_ASSIGNED}
    assert log.rows_by_id[FIRST_ASSIGNED] == rekeyed(event, FIRST_ASSIGNED)


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
async def test_a_derived_id_that_is_taken_is_derived_again_with_a_salt(taken: int) -> None:
    event = derived(1)
    others = (
        envelope(50 + salt, event_id=_id(derived(1, salt)), step="other") for salt in range(taken)
    )
    log = Log(*others)

    fates = [*await log.take(event), *await log.take(event)]

    assert fates == ["stored", "duplicate"]
    assert log.rows_by_id[_id(derived(1, taken))] == derived(1, taken)


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
    log = Log()

    fates = [*await log.take(one, two), *await log.take(two), *await log.take(one)]

    assert fates == ["stored", "stored", "duplicate", "duplicate"]
    assert log.rows_by_id[derive_id(TOPIC, 0, 0, offset, 0, RECORDED_MS, 1)].source_offset == offset


async def test_a_derived_event_without_a_salt_left_is_assigned_an_id_and_coerced_nothing() -> None:
    event = derived(1)
    log = Log(*(envelope(50 + salt, event_id=_id(derived(1, salt)), step="x") for salt in range(4)))

    fates = [*await log.take(event), *await log.take(event)]

    assert fates == ["stored", "duplicate"]
    assert log.rows_by_id[FIRST_ASSIGNED] == msgspec.structs.replace(event, event_id=FIRST_ASSIGNED)


@pytest.mark.parametrize("imported_first", [True, False])
async def test_an_imported_row_meets_the_record_it_was_derived_from(
    *, imported_first: bool
) -> None:
    record = derived(1, error="e")
    imported = msgspec.structs.replace(
        record, source_topic="file:0011223344556677", source_offset=40, recorded_at=None, error=None
    )
    log = Log()
    events = [imported, record] if imported_first else [record, imported]

    fates = [fate for event in (*events, *events) for fate in await log.take(event)]

    assert log.rows_stored == 1
    assert fates[0] == "stored"
    assert fates[2:] == ["duplicate", "duplicate"]
    assert log.rows_by_id[_id(record)].error == "e"


async def test_another_event_under_a_derived_looking_id_is_kept_beside_it() -> None:
    record = derived(1)
    foreign = envelope(9, event_id=record.event_id, step="other", source_topic="elsewhere")
    log = Log()

    fates = [*await log.take(record), *await log.take(foreign), *await log.take(foreign)]

    assert fates == ["stored", "stored", "duplicate"]
    assert log.rows_by_id[conflict_id(foreign, 0)].step == "other"


async def test_an_event_that_brings_the_id_of_a_conflict_in_the_same_batch_overwrites_nothing() -> (
    None
):
    first = envelope(1, event_id=5, step="a")
    conflicting = envelope(2, event_id=5, step="b")
    bringing = envelope(3, event_id=conflict_id(conflicting, 0), step="c")
    log = Log()

    fates = await log.take(first, conflicting, bringing)

    assert fates == ["stored"] * 3
    assert sorted(row.step for row in log.rows_by_id.values()) == ["a", "b", "c"]


async def test_an_event_without_any_id_has_no_row() -> None:
    with pytest.raises(ValueError, match="without an id"):
        await settle([envelope(event_id=None)], Log())


async def test_no_events_are_no_rows() -> None:
    assert await settle([], Log()) == Settled(new=[], changed=[], fates=[])
