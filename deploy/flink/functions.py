"""The fold of calls as a function of Flink's SQL."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from calls import CallEvent, calls_of_command
from pyflink.table import DataTypes
from pyflink.table.udf import TableFunction, udtf

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CALL: Final = {
    "attempts": DataTypes.INT(),
    "step": DataTypes.STRING(),
    "status": DataTypes.STRING(),
    "error_class": DataTypes.STRING(),
    "begun_us": DataTypes.BIGINT(),
    "finished_us": DataTypes.BIGINT(),
    "duration_us": DataTypes.BIGINT(),
    "queue_us": DataTypes.BIGINT(),
    "exhausted": DataTypes.BOOLEAN(),
    "attribution": DataTypes.STRING(),
}


class CallsOfCommand(TableFunction):
    """The attempts of one command, from an array of its events."""

    def eval(self, events: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """An event has the fields of CallEvent, in their order. Its time is RFC 3339 text."""
        folded = calls_of_command(
            [
                CallEvent(event_type, _microseconds(created_at), *fields)
                for event_type, created_at, *fields in events
            ]
        )
        yield from (tuple(getattr(call, name) for name in _CALL) for call in folded)


def _microseconds(created_at: str) -> int:
    return (datetime.fromisoformat(created_at) - _EPOCH) // timedelta(microseconds=1)


calls_of = udtf(CallsOfCommand(), result_types=list(_CALL.values()))
