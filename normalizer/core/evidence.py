"""How well three columns of an event are known: attempts, status, and created_at.

A row stores the three ranks as one number, with a decimal digit for each. For example, 212 says
that the producer sent the attempts and the time, and that the status comes from a word in the
event. Source: docs/spec/wire-shapes.md#v3.
"""

from typing import Final, Literal, NamedTuple, TypeAlias, cast

Rank: TypeAlias = Literal[0, 1, 2]
"""How well a value is known. If two reports differ, the value with the higher rank is stored."""

NOT_SENT: Final = 0
FROM_LOG: Final = 0
FROM_ID: Final = 1
FROM_PRODUCER: Final = 2


class Evidence(NamedTuple):
    """The rank of each column. `pack` writes one decimal digit for each, in this order.

    - `attempts`: NOT_SENT, 1 for a field that counts from 1, or 2 for an explicit count
    - `status`: 0 if the event's type implies it, 1 for a declared or nested word, 2 for a failure
    - `created_at`: FROM_LOG, FROM_ID, or FROM_PRODUCER
    """

    attempts: Rank
    status: Rank
    created_at: Rank

    @classmethod
    def unpack(cls, packed: int) -> "Evidence":
        """Return the ranks in the column `evidence` of a row."""
        return cls(*(cast("Rank", packed // digit % 10) for digit in (100, 10, 1)))

    def pack(self) -> int:
        """Return the number for the column `evidence` of a row."""
        return 100 * self.attempts + 10 * self.status + self.created_at

    def stronger(self, other: "Evidence") -> "Evidence":
        """Return the higher of both ranks, for each column."""
        return Evidence(*map(max, self, other))

    @property
    def are_attempts_declared(self) -> bool:
        """Return whether the producer sent the number of attempts."""
        return self.attempts != NOT_SENT

    @property
    def is_time_declared(self) -> bool:
        """Return whether the producer sent the time."""
        return self.created_at == FROM_PRODUCER
