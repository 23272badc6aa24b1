"""Ids: minted in order, read back, derived from coordinates."""

import pytest

from normalizer.snowflake import (
    EPOCH_MS,
    SnowflakeGenerator,
    decode_id,
    derive_id,
    hash_event_id,
    hash_text_id,
)

NOW_MS = 1_783_674_120_000


def derived(**changes: int | str | None) -> int:
    coordinates: dict[str, int | str | None] = {
        "topic": "noetl.events",
        "incarnation": 0,
        "partition": 3,
        "offset": 1042,
        "index": 0,
        "recorded_ms": NOW_MS,
    }
    return derive_id(**coordinates | changes)  # type: ignore[arg-type]


def test_ids_of_one_millisecond_ascend_and_flow_into_the_next() -> None:
    generator = SnowflakeGenerator(5, lambda: NOW_MS)

    ids = [generator.next_id() for _ in range(5000)]

    assert ids == sorted(set(ids))
    first, last = decode_id(ids[0]), decode_id(ids[-1])
    assert first is not None
    assert (first.layout, first.time_ms, first.node, first.sequence) == (
        "application",
        NOW_MS,
        5,
        0,
    )
    assert last is not None
    assert (last.time_ms, last.node, last.sequence) == (NOW_MS + 1, 5, 5000 - 4096 - 1)


def test_a_clock_that_steps_back_repeats_no_id() -> None:
    clock = iter([NOW_MS, NOW_MS - 60_000, NOW_MS - 60_000, NOW_MS + 1])
    generator = SnowflakeGenerator(1023, lambda: next(clock))

    ids = [generator.next_id() for _ in range(4)]

    assert ids == sorted(set(ids))
    assert [each >> 22 for each in ids] == [NOW_MS - EPOCH_MS] * 3 + [NOW_MS - EPOCH_MS + 1]


@pytest.mark.parametrize("node", [-1, 1024])
def test_a_node_that_does_not_fit_is_rejected(node: int) -> None:
    with pytest.raises(ValueError, match=f"node: expected 0 to 1023, got {node}"):
        SnowflakeGenerator(node, lambda: NOW_MS)


def test_a_clock_that_was_wrong_for_a_moment_ends_no_generator() -> None:
    clock = iter([NOW_MS, EPOCH_MS + (1 << 41), NOW_MS])
    generator = SnowflakeGenerator(5, lambda: next(clock))
    first = generator.next_id()

    with pytest.raises(OverflowError, match="2093"):
        generator.next_id()

    assert generator.next_id() == first + 1


@pytest.mark.parametrize("event_id", [-1, 0, 5, (1 << 40) - 1, 3 << 61, (1 << 63) - 1])
def test_small_and_hashed_numbers_have_no_time(event_id: int) -> None:
    assert decode_id(event_id) is None


def test_a_derived_id_tells_the_time_of_its_record() -> None:
    decoded = decode_id(derived())

    assert decoded is not None
    assert (decoded.layout, decoded.time_ms) == ("derived", NOW_MS)
    assert decoded.node is None
    assert decoded.sequence is None


def test_a_doubled_id_is_reported_from_an_application_id_by_the_nearer_time() -> None:
    application = (NOW_MS - EPOCH_MS) << 22 | 64 << 12 | 7
    doubled = (NOW_MS - EPOCH_MS) << 23 | 256 << 10 | 7

    near, foreign, maintenance_lock = (
        decode_id(application, NOW_MS),
        decode_id(doubled, NOW_MS),
        decode_id(doubled),
    )

    assert near is not None
    assert (near.layout, near.time_ms, near.node, near.sequence) == ("application", NOW_MS, 64, 7)
    assert foreign is not None
    assert (foreign.layout, foreign.time_ms, foreign.node) == ("doubled", NOW_MS, 256)
    assert foreign.sequence == 7
    assert maintenance_lock == foreign


def test_a_time_of_the_day_after_tomorrow_is_no_time() -> None:
    event_id = (NOW_MS - EPOCH_MS) << 22

    assert decode_id(event_id, NOW_MS - 86_400_000) is not None
    assert decode_id(event_id, NOW_MS - 86_400_001) is None


def test_each_part_of_a_place_makes_another_id() -> None:
    ids = [
        derived(),
        derived(topic="other"),
        derived(incarnation=1),
        derived(partition=4),
        derived(offset=1043),
        derived(index=1),
        derived(salt=1),
        derived(salt=2),
    ]

    assert len(set(ids)) == len(ids)
    assert {each >> 22 for each in ids} == {1 << 40 | NOW_MS - EPOCH_MS}


def test_without_a_time_a_derived_id_lies_among_the_hashed_ones() -> None:
    assert derived(recorded_ms=None) >> 61 == 0b11
    assert hash_event_id("01HZX") >> 61 == 0b11
    assert hash_text_id("cli-local-1") == 8933847632737389208


def test_a_place_that_no_log_has_still_gives_an_id() -> None:
    assert derived(offset=-1, partition=-1) > 0
    assert derived(topic="\ud800") > 0
