"""How well the values of three columns are known: attempts, status, and created_at.

When two reports of an event disagree, the better known value is stored. A row stores the ranks of
the three columns as one number with a digit for each. For example, 212 says that the producer sent
the attempts and the time, while the status comes from a word in the event. Source:
docs/spec/wire-shapes.md#v3.
"""

from typing import Final, Literal, NamedTuple, TypeAlias, cast

EvidenceRank: TypeAlias = Literal[0, 1, 2]
"""How well a value is known. If two reports differ, the value with the higher rank is stored."""

ATTEMPTS_NOT_SENT: Final = 0
TIME_FROM_LOG: Final = 0
TIME_FROM_ID: Final = 1
TIME_FROM_PRODUCER: Final = 2


class Evidence(NamedTuple):
    """How well each of three columns is known. `pack` writes one digit for each, in this order.

    - `attempts`: ATTEMPTS_NOT_SENT, 1 if taken from a field that counts from 1, or 2 for an
      explicit count
    - `status`: 0 if only implied by the event's type, 1 for a word in the event, 2 for a failure
    - `created_at`: TIME_FROM_LOG, TIME_FROM_ID, or TIME_FROM_PRODUCER
    """

    attempts: EvidenceRank
    status: EvidenceRank
    created_at: EvidenceRank

    @classmethod
    def unpack(cls, packed: int) -> "Evidence":
        """Return the ranks in the column `evidence` of a row."""
        return cls(*(cast("EvidenceRank", packed // digit % 10) for digit in (100, 10, 1)))

    def pack(self) -> int:
        """Return the number for the column `evidence` of a row."""
        return 100 * self.attempts + 10 * self.status + self.created_at

    def max_per_column(self, other: "Evidence") -> "Evidence":
        """Return the higher of both ranks, for each column."""
        return Evidence(*map(max, self, other))

    @property
    def are_attempts_declared(self) -> bool:
        """Return whether the producer sent the number of attempts."""
        return self.attempts != ATTEMPTS_NOT_SENT

    @property
    def is_time_declared(self) -> bool:
        """Return whether the producer sent the time."""
        return self.created_at == TIME_FROM_PRODUCER
