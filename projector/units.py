"""What is rebuilt together: an explicit tuple. Tables that move by the same functions go as one."""

from typing import Final

import msgspec


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """Tables, and the functions that feed them when `triggers` fire on normalizer.events.

    `triggers` are (name, function), in the order they run. `functions` are all that name a table of
    the unit, the trigger functions among them; `views` are ours and no reader's.
    """

    name: str
    triggers: tuple[tuple[str, str], ...]
    functions: tuple[str, ...]
    tables: tuple[str, ...]
    views: tuple[str, ...] = ()


UNITS: Final[tuple[Unit, ...]] = (
    Unit(
        name="executions",
        triggers=(
            ("follow_1_executions", "follow_executions"),
            ("follow_2_calls", "follow_calls"),
        ),
        functions=(
            "events_of",
            "events_at",
            "folded_executions",
            "refold_executions",
            "execution_moves",
            "count_executions",
            "follow_executions",
            "call_counts",
            "count_calls",
            "move_calls",
            "folded_calls",
            "refold_calls",
            "misdated_retries",
            "follow_calls",
        ),
        tables=(
            "execution_facts",
            "execution_hours",
            "call_facts",
            "call_hours",
            "call_times",
            "worker_hours",
            "error_hours",
            "retry_minutes",
        ),
        views=("counted_calls",),
    ),
    Unit(
        name="counters",
        triggers=(("follow_3_counters", "follow_counters"),),
        functions=("follow_counters",),
        tables=("event_minutes", "event_hours", "arrival_hours", "coercion_hours"),
    ),
)


def unit_of(name: str) -> Unit:
    """The unit of this name, or the one that this table goes with. Raises KeyError."""
    for unit in UNITS:
        if name == unit.name or name in unit.tables:
            return unit
    raise KeyError(name)
