"""The fold of calls as a function of Flink's SQL."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from calls import CallEvent, execution_calls
from pyflink.table import DataTypes
from pyflink.table.udf import TableFunction, udtf

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = ("command_id", *CallEvent._fields)
_CALL: Final = {
    "step": DataTypes.STRING(),
    "attempts": DataTypes.INT(),
    "status": DataTypes.STRING(),
    "error_class": DataTypes.STRING(),
    "finished_us": DataTypes.BIGINT(),
    "duration_us": DataTypes.BIGINT(),
    "queue_us": DataTypes.BIGINT(),
    "backoff_us": DataTypes.BIGINT(),
    "exhausted": DataTypes.BOOLEAN(),
    "attribution": DataTypes.STRING(),
}


class EndedCallsOf(TableFunction):
    """The attempts of one execution that ended, from an array of the events of its calls."""

    def eval(self, events: Sequence[Any] | None) -> Iterator[tuple[Any, ...]]:
        """An event has the values of _FIELDS. Its time is RFC 3339 text."""
        reported = [
            dict(
                zip(
                    _FIELDS,
                    (command_id, event_type, _microseconds(created_at), *fields),
                    strict=True,
                )
            )
            for command_id, event_type, created_at, *fields in events or ()
        ]
        for call in execution_calls(reported):
            if call["finished_us"] is not None:
                failed_us = call["failed_us"]
                backoff_us = None if failed_us is None else call["begun_us"] - failed_us
                yield tuple((call | {"backoff_us": backoff_us})[name] for name in _CALL)


def _microseconds(created_at: str) -> int:
    return (datetime.fromisoformat(created_at) - _EPOCH) // timedelta(microseconds=1)


ended_calls_of = udtf(EndedCallsOf(), result_types=list(_CALL.values()))
