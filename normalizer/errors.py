"""Every error, sorted by what the caller must do, and every reason to reject a record.

    NormalizerError
    ├── ConfigurationError         fix the settings (nothing was started)
    ├── RetryableError             back off, then retry the same batch
    │   ├── StoreUnavailableError  the database is unreachable, overloaded, or read-only
    │   │   ├── StoreSignInError   it rejects the sign-in: retry as often as SignInRetryLimit allows
    │   │   ├── StoreSilentError   it hasn't responded at all
    │   │   └── ProjectionFailedError  a projection failed: write without projections in the end
    │   └── BrokerUnavailableError the broker is unreachable
    │       └── BrokerSignInError  it rejects the sign-in: retry as often as SignInRetryLimit allows
    ├── PositionError              this process may not write this partition
    │   ├── FencedError            another process claimed it: wait for the next assignment
    │   ├── OtherGroupError        another consumer group reads it: wait until that one stops
    │   ├── PositionMovedError     the position has changed: read it again, seek, continue
    │   ├── TopicResetError        the topic was recreated: stop until an operator decides
    │   │   └── AnotherClusterError  this is another Kafka cluster: correct the address
    │   ├── ShapesChangedError     the table of shapes changed: stop until --accept-shapes
    │   └── UnreadableBatchError   nobody can decode a batch of the log: stop until it's skipped
    ├── PartsNotWrittenError             parts of a batch had a PositionError, the rest is written
    ├── FatalError                 log once, exit non-zero
    │   ├── RestartNeededError     exit, because a new process can continue
    │   └── MigrationFailedError   a migration failed, and nothing was changed
    │       └── SchemaMismatchError  another build has migrated the database
    ├── EmbeddedError              a server of `normalizer up` didn't start
    │   └── KafkaRequirementMissingError  install Java or Maven, or allow the download
    ├── NotVisibleYetError         `projector wait` has waited in vain
    ├── InQuarantineError          `projector wait` waits for a record that was rejected
    ├── MaintainerBusyError        another process maintains this database: try again later
    ├── ClocksDifferError          correct a clock
    └── StepsFailedError           the next `projector maintain` does what the database rejected

A rejected record isn't an error. It becomes a `Rejected` and goes to quarantine, and the batch
continues. Other exceptions only tell a caller inside what happened, which translates them:

    NumberError, RecordRejectedError, RecordIgnoredError  the rules, about a record
    NormalizingHelperDiedError                                the helper process, about itself
    TokenUnavailableError, TokenRejectedError             an access token for Kafka
    DecompressedTooLargeError                             decompressing a batch of Kafka's log
    TlsFileError, PoolerRejectedError                     opening a connection to PostgreSQL
    RowRejectedError, RetryTransactionError               a transaction that writes a batch

The HTTP API has its own in projector/api/api_errors.py.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

RejectionReason = Literal[
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
"""The reasons to reject a record, in the order of docs/spec/wire-shapes.md#l2. There are no others.

No rule uses the last one, `skipped`. It means that an operator moved the position past the
record."""

REJECTION_REASONS: Final[tuple[RejectionReason, ...]] = get_args(RejectionReason)


class NormalizerError(Exception):
    """The base class of every error that this package raises on purpose.

    `what` says what happened, and `remedy` what the operator can do about it. The error's text is
    both, or only `what` if there's no remedy.
    """

    def __init__(self, what: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class ConfigurationError(NormalizerError):
    """The settings are wrong. The message names every wrong one."""


class RetryableError(NormalizerError):
    """Nothing was written, and a retry may succeed. Wait with a growing backoff, and retry."""


class StoreUnavailableError(RetryableError):
    """The database is unreachable, overloaded, full, or read-only, or rejects the sign-in.

    `sqlstate` is None if the database didn't respond.
    """

    def __init__(self, what: str, *, remedy: str = "", sqlstate: str | None = None) -> None:
        super().__init__(what, remedy=remedy)
        self.sqlstate = sqlstate


class StoreSignInError(StoreUnavailableError):
    """The database responds, but rejects the sign-in."""


class StoreSilentError(StoreUnavailableError):
    """The database hasn't responded at all, so nobody knows whether it would reject the sign-in."""


class ProjectionFailedError(StoreUnavailableError):
    """The database is available, but a projection failed, or reached the statement timeout."""


class BrokerUnavailableError(RetryableError):
    """The broker is unreachable, or rejects the sign-in."""


class BrokerSignInError(BrokerUnavailableError):
    """The broker responds, but rejects the sign-in, or the settings for it are wrong."""


class PositionError(NormalizerError):
    """The stored position doesn't allow this batch. Nothing was written."""

    def __init__(self, message: str, *, topic: str, partition: int) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition


class FencedError(PositionError):
    """Another process has claimed the partition. Drop it until the group assigns it again."""


class OtherGroupError(PositionError):
    """Another consumer group reads the partition into this database. Leave it to that group."""

    REMEDY: Final = (
        "Use one KAFKA_GROUP_ID for one database. Before you change it, stop every process of "
        "group {}"
    )

    def __init__(
        self, other: str, owner: str, group_id: str, *, topic: str, partition: int
    ) -> None:
        self.why = (
            f"consumer group {other}, whose process {owner} was alive within the last 10 s, while "
            f"this process is in group {group_id}. {self.REMEDY.format(other)}"
        )
        super().__init__(
            f"{topic}[{partition}] is left to {self.why}", topic=topic, partition=partition
        )
        self.other = other
        self.owner = owner


class PositionMovedError(PositionError):
    """The position has changed, but no other process has claimed the partition. Claim it again.

    There are two possible causes. Either an operator has moved the position, or an earlier commit
    succeeded but its response was lost, and we've tried to write only a part of its batch again. In
    the second case no event is lost, but the metrics lack the outcomes of that commit.
    """


class TopicResetError(PositionError):
    """The position belongs to another log, for example because the topic was recreated."""


class AnotherClusterError(TopicResetError):
    """The topic belongs to another Kafka cluster than the one we're connected to. Claim nothing."""

    REMEDY: Final = (
        "correct the address and restart. If you moved to this cluster on purpose, start once "
        "with --accept-reset"
    )
    """A wrong address is the most likely cause. Accepting the cluster would mix the events of two.
    """

    def __init__(self, known: str, answering: str, *, topic: str, partition: int) -> None:
        super().__init__(
            f"KAFKA_BOOTSTRAP_SERVERS leads to cluster {answering}, but topic {topic} was read "
            f"from cluster {known}: {self.REMEDY}",
            topic=topic,
            partition=partition,
        )
        self.known = known


class ShapesChangedError(PositionError):
    """The table of shapes has changed since the last batch. Start again with --accept-shapes."""


class PartsNotWrittenError(NormalizerError):
    """Some parts of a batch weren't written, each for one of these reasons.

    The rest was written.
    """

    def __init__(self, reasons: Sequence[PositionError]) -> None:
        super().__init__("; ".join(map(str, reasons)))
        self.reasons = reasons


class FatalError(NormalizerError):
    """Continuing would be wrong. Log once, and exit with a code other than 0."""


class RestartNeededError(FatalError):
    """This process can't continue, but a new one can. Exit, so that the supervisor restarts it."""


class SignInRetryLimit:
    """Counts rejected sign-ins in a row, and raises FatalError at the fifth.

    A single rejection may be temporary: somebody may have changed the password on one side first,
    or a broker may have just started. After several rejections in a row, a setting must be wrong,
    and no retry helps. A try without any response counts neither as a success nor as a rejection,
    because PgBouncer lets its clients wait for 15 s after the server has rejected PgBouncer itself.
    """

    MOST: Final = 5

    def __init__(self) -> None:
        self._rejected = 0

    def count_failure(self, error: RetryableError) -> None:
        """Count a failed try.

        Raises FatalError when the sign-in was rejected five times in a row.
        """
        match error:
            case StoreSilentError():
                return
            case StoreSignInError() | BrokerSignInError():
                self._rejected += 1
            case _:
                self._rejected = 0
        if self._rejected == self.MOST:
            raise FatalError(
                f"{error}. The sign-in was rejected {self.MOST} times in a row, so a setting must "
                "be wrong"
            ) from error

    def reset_count(self) -> None:
        """Count a try that succeeded."""
        self._rejected = 0


def pick_error_by_kind_order(
    errors: BaseExceptionGroup[BaseException], *kinds: type[BaseException]
) -> BaseException:
    """Return the one error to raise for a group: the first one of the most important kind."""
    leaves = [
        pick_error_by_kind_order(error, *kinds) if isinstance(error, BaseExceptionGroup) else error
        for error in errors.exceptions
    ]
    return next((leaf for kind in kinds for leaf in leaves if isinstance(leaf, kind)), leaves[0])
