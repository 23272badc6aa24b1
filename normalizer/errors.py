"""Every way a record can be refused, and every error, ordered by what the caller must do.

    NormalizerError
    ├── ConfigurationError     fix the settings; nothing was started
    ├── RetryableError         back off, then retry the same batch
    │   ├── StoreUnavailable   the database is away, overloaded or read-only
    │   └── BrokerUnavailable  the broker is away
    ├── PositionError          this process may not write this partition
    │   ├── Fenced             another process claimed it: drop it, wait for the next assignment
    │   ├── PositionMoved      it is elsewhere: read the position again, seek, go on
    │   ├── TopicReset         another log than was read: stop until an operator decides
    │   │   └── AnotherCluster     another Kafka cluster than the topic's: correct the address
    │   └── ShapesChanged      another table of shapes: stop until --accept-shapes
    ├── PartsLost              parts of a batch had a PositionError, the others are written
    └── FatalError             log once, exit non-zero
        └── ProcessStuck       a new process can go on: be started again

A refused record is not an error: it is a `Rejected`, goes to quarantine, and the batch goes on.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

Reason = Literal[
    "too_large",
    "unsupported_framing",
    "invalid_utf8",
    "invalid_json",
    "too_deep",
    "not_an_event",
    "missing_execution_id",
    "invalid_id",
    "missing_time",
    "rejected_by_database",
    "skipped",
]
"""Why a record was refused: a closed list. Source: docs/spec/wire-shapes.md#l2 (also the order).

`skipped` comes last and from no rule: an operator moved the position past the record."""

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class NormalizerError(Exception):
    """The base class of every error that this package raises on purpose.

    `what` happened, and `remedy`, what to do about it, which is empty where nobody knows.
    """

    def __init__(self, what: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class ConfigurationError(NormalizerError):
    """The settings are wrong; the message names every wrong one."""


class RetryableError(NormalizerError):
    """Nothing was written. Back off and retry.

    `sign_in_refused`: the other end answers, and does not let this process in. Retry as often as
    `SignInTries` allows. None: the other end hasn't answered at all.
    """

    def __init__(
        self, what: str, *, remedy: str = "", sign_in_refused: bool | None = False
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.sign_in_refused = sign_in_refused


class StoreUnavailable(RetryableError):  # noqa: N818 - a state, not a mistake
    """The database is away, overloaded, out of space or read-only, or refuses the sign-in.

    `sqlstate` is None if the database did not answer. `in_projection`: the database is available,
    but one of its projections failed, or took longer than a statement may.
    """

    def __init__(
        self,
        what: str,
        *,
        remedy: str = "",
        sqlstate: str | None = None,
        in_projection: bool = False,
        sign_in_refused: bool | None = False,
    ) -> None:
        super().__init__(what, remedy=remedy, sign_in_refused=sign_in_refused)
        self.sqlstate = sqlstate
        self.in_projection = in_projection


class BrokerUnavailable(RetryableError):  # noqa: N818 - a state, not a mistake
    """The broker is away, or refuses the sign-in."""


class PositionError(NormalizerError):
    """The stored position does not allow this batch; nothing was written."""

    def __init__(self, message: str, *, topic: str, partition: int) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition


class Fenced(PositionError):  # noqa: N818 - a state, not a mistake
    """A younger epoch owns the partition: drop it until the group assigns it again."""


class PositionMoved(PositionError):  # noqa: N818 - a state, not a mistake
    """The position is elsewhere and nobody else owns it: claim it again.

    An operator moved it, or a commit took effect whose answer was lost and whose batch was halved
    since. Nothing is lost then; the metrics lack the outcomes of that commit.
    """


class TopicReset(PositionError):  # noqa: N818 - a state, not a mistake
    """The log is not the one that the position is of: its message says what to do."""


class AnotherCluster(TopicReset):
    """The topic is of another Kafka cluster than the one that answers; no partition is claimed."""

    REMEDY: Final = (
        "correct the address and restart; only if you moved to this cluster on purpose, start "
        "once with --accept-reset"
    )
    """A wrong address is the likely cause. Accepting it would mix the events of two clusters."""

    def __init__(self, known: str, answering: str, *, topic: str, partition: int) -> None:
        super().__init__(
            f"KAFKA_BOOTSTRAP_SERVERS leads to cluster {answering}, topic {topic} is of cluster "
            f"{known}; {self.REMEDY}",
            topic=topic,
            partition=partition,
        )
        self.known = known


class ShapesChanged(PositionError):  # noqa: N818 - a state, not a mistake
    """The records are read by another table of shapes: start again with --accept-shapes."""


class PartsLost(NormalizerError):  # noqa: N818 - a state, not a mistake
    """Parts of a batch were not written, one for each of these reasons; the others were."""

    def __init__(self, reasons: Sequence[PositionError]) -> None:
        super().__init__("; ".join(map(str, reasons)))
        self.reasons = reasons


class FatalError(NormalizerError):
    """Going on would be wrong: log once and exit non-zero."""


class ProcessStuck(FatalError):  # noqa: N818 - a state, not a mistake
    """This process cannot go on, but a new one can: exit, and be started again."""


class SignInTries:
    """Counts refused sign-ins in a row.

    A refusal may pass: a password is changed at one end first, a broker has just started. One that
    stays is a wrong setting, which no retry cures. A try without any answer counts neither way: for
    15 s after its server has refused it, PgBouncer lets its clients wait.
    """

    MOST: Final = 5

    def __init__(self) -> None:
        self._refused = 0

    def failed(self, error: RetryableError) -> None:
        """Note a failed try. Raises FatalError for the last refusal that is allowed."""
        if error.sign_in_refused is None:
            return
        self._refused = self._refused + 1 if error.sign_in_refused else 0
        if self._refused == self.MOST:
            raise FatalError(f"{error} (refused {self.MOST} times)") from error

    def succeeded(self) -> None:
        """Note a try that did not fail."""
        self._refused = 0


def worst_of(
    errors: BaseExceptionGroup[BaseException], *kinds: type[BaseException]
) -> BaseException:
    """The one error to raise for a group: of the first kind that it holds, else the first."""
    leaves = [
        worst_of(error, *kinds) if isinstance(error, BaseExceptionGroup) else error
        for error in errors.exceptions
    ]
    return next((leaf for kind in kinds for leaf in leaves if isinstance(leaf, kind)), leaves[0])
