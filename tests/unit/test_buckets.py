"""Buckets: which ids one query looks up, and which buckets a batch needs."""

from normalizer.store.buckets import Buckets

HASHED_FROM = 3 << 61
LAST = (1 << 63) - 1


def test_ids_are_grouped_by_bucket_with_its_bounds() -> None:
    buckets = Buckets()
    edge = 7 << buckets.shift

    assert buckets.grouped([5, edge - 1, edge, edge + 3]) == [
        (0, (1 << buckets.shift) - 1, [5]),
        (edge - (1 << buckets.shift), edge - 1, [edge - 1]),
        (edge, edge + (1 << buckets.shift) - 1, [edge, edge + 3]),
    ]


def test_all_hashed_ids_are_one_group() -> None:
    ids = [HASHED_FROM, HASHED_FROM + (5 << 51), LAST]

    assert Buckets().grouped([HASHED_FROM - 1, *ids]) == [
        (HASHED_FROM - (1 << 51), HASHED_FROM - 1, [HASHED_FROM - 1]),
        (HASHED_FROM, LAST, ids),
    ]


def test_a_bucket_is_missing_until_it_is_made_and_again_when_all_is_forgotten() -> None:
    buckets = Buckets()
    low = 7 << 51

    assert buckets.missing({low + 5, low + 6, LAST}) == [low, HASHED_FROM]
    buckets.made(low)
    buckets.made(HASHED_FROM)
    assert buckets.missing({low + 9}) == []
    buckets.forget()
    assert buckets.missing({low + 9}) == [low, HASHED_FROM]


def test_the_width_is_the_databases() -> None:
    buckets = Buckets()
    buckets.shift = 45

    assert buckets.bounds(3 << 45) == (3 << 45, (4 << 45) - 1)


def test_a_closed_bucket_is_never_asked_for_again() -> None:
    buckets = Buckets()
    low, high = buckets.bounds(1 << 60)

    buckets.close(low)
    buckets.forget()

    assert buckets.is_closed(1 << 60)
    assert buckets.is_closed(high)
    assert not buckets.is_closed(high + 1)
    assert not buckets.is_closed(None)
    assert low not in buckets.missing({1 << 60})
