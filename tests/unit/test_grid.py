"""The grid: which ids one query looks up, and how few ranges partitions are."""

from normalizer.store.grid import Grid, adjacent_ranges

LEAST = -(1 << 63)
LAST = (1 << 63) - 1
PARTITIONS = [(LEAST, -1), (0, 9), (10, 19), (20, LAST)]


def grid() -> Grid:
    made = Grid()
    made.load(PARTITIONS)
    return made


def test_ids_are_grouped_by_partition_with_its_bounds() -> None:
    assert grid().grouped([LEAST, -1, 0, 9, 10, 19, 20, LAST]) == [
        (LEAST, -1, [LEAST, -1]),
        (0, 9, [0, 9]),
        (10, 19, [10, 19]),
        (20, LAST, [20, LAST]),
    ]


def test_a_partition_without_an_id_is_no_group() -> None:
    assert grid().grouped([5, 25]) == [(0, 9, [5]), (20, LAST, [25])]
    assert grid().grouped([]) == []


def test_neighbours_are_one_range() -> None:
    assert adjacent_ranges([(0, 9), (10, 19), (30, 39), (50, 59), (60, 69)]) == [
        (0, 19),
        (30, 39),
        (50, 69),
    ]
    assert adjacent_ranges([]) == []
