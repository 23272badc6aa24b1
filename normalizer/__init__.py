"""Turns the events of four producers into one canonical form, stored exactly once in PostgreSQL.

The packages, in the order in which they handle an event. docs/flow.md follows one event the same
way, and each package lists its own modules like this.

consumer/       the loop: fetch, normalize, store, commit
kafka/          reads and writes Kafka. No other package imports aiokafka
core/           the rules, without I/O, clock, or randomness
envelope        the canonical event and its bytes, also for producers
producer_models  the Python server's requests as pydantic models
snowflake       mints, reads, and derives ids
jsontext        parses JSON and keeps every number as it was written
errors          every error, sorted by what the caller must do
store/          writes a batch in one transaction. No other package writes events
observability/  the consumer's counters and traces
monitoring/     /metrics, /livez, /readyz
relay/          the same loop, but it writes canonical events to a Kafka topic
jobs/           backfill, redrive, renormalize, redact, forget, and export, with the same core and
                store
files/          reads records from files
cli/            the commands
up/             runs the whole stack on this machine
embedded/       runs real servers as child processes, for `up` and the tests
postgres/       opens connections to PostgreSQL, for the projector too
runtime/        how a process starts, logs, runs children, and ends
config/         settings, passwords, TLS files

To use it as a library, import from here: `from normalizer import Normalizer`, or one of the other
six names in `__all__`. They open no connection and read no clock. docs/library.md shows each one.

Imports go in one direction only, and import-linter checks it: cli > up, relay > jobs > monitoring >
consumer > observability > kafka, files, store, embedded > postgres > runtime > config >
producer_models > core > envelope > snowflake, jsontext > errors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from normalizer.core.normalize import Normalizer
    from normalizer.core.raw_record import RawRecord
    from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
    from normalizer.snowflake import SnowflakeGenerator

__all__ = [
    "Envelope",
    "Ignored",
    "Normalizer",
    "RawRecord",
    "Rejected",
    "SnowflakeGenerator",
    "to_canonical",
]
_HOMES: Final = {
    "Normalizer": "core.normalize",
    "RawRecord": "core.raw_record",
    "SnowflakeGenerator": "snowflake",
}


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    """Import a public name when it's first used, because most commands don't need the rules."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'envelope')}"), name)
