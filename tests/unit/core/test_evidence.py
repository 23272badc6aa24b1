"""The evidence of a row, packed into one number and unpacked again."""

from itertools import product

import pytest

from normalizer.core.evidence import Evidence, EvidenceRank

RANKS: tuple[EvidenceRank, EvidenceRank, EvidenceRank] = (0, 1, 2)


@pytest.mark.parametrize(
    ("evidence", "packed"),
    [(Evidence(2, 1, 0), 210), (Evidence(0, 0, 2), 2), (Evidence(0, 2, 1), 21)],
)
def test_evidence_is_one_digit_for_each_column(evidence: Evidence, packed: int) -> None:
    assert evidence.pack() == packed


def test_packed_evidence_unpacks_to_the_same_ranks() -> None:
    for ranks in product(RANKS, repeat=3):
        assert Evidence.unpack(Evidence(*ranks).pack()) == ranks


def test_the_stronger_evidence_is_the_higher_rank_of_each_column() -> None:
    assert Evidence(2, 0, 1).max_per_column(Evidence(1, 2, 1)) == Evidence(2, 2, 1)


def test_attempts_that_count_from_one_are_declared_and_only_a_producers_time_is() -> None:
    counted, from_id = Evidence(1, 0, 1), Evidence(0, 2, 1)

    assert (counted.are_attempts_declared, from_id.are_attempts_declared) == (True, False)
    assert (Evidence(0, 0, 2).is_time_declared, from_id.is_time_declared) == (True, False)
