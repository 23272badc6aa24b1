"""Packs the evidence of a row, apart from the normalizer's own code, so that tests compare both."""

from typing import Final

_ATTEMPTS: Final = 100
_STATUS: Final = 10


def pack_evidence(attempts_rank: int, status_rank: int, created_rank: int) -> int:
    """Return the number in the row's column `evidence`."""
    return attempts_rank * _ATTEMPTS + status_rank * _STATUS + created_rank


def are_attempts_declared(evidence: int) -> bool:
    """Return whether a producer sent the number of attempts."""
    return evidence >= _ATTEMPTS
