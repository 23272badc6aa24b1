"""Normalizes the events of four producers into one envelope, stored exactly once in PostgreSQL.

In the order an event meets them. docs/flow.md follows one event on the same way, and each package
lists its modules like this one.

service/      the loop: fetch, normalize, store, commit; and its monitoring
kafka/        reads records from Kafka; the only importer of aiokafka
core/         the rules: no I/O, no clock, no randomness
envelope      the canonical event and its bytes; for producers too
producer_models  the Python server's requests as pydantic models
json_schema   the canonical event as JSON Schema
snowflake     mints, reads and derives ids
jsontext      JSON that keeps its numbers as they were written
store/        writes a batch in one transaction; the only code that writes events

relay/        the same loop with Kafka as its store: canonical events to a topic
jobs/         backfill, redrive, renormalize, redact, forget, export: same core and store
files/        reads records from files
cli/          the commands
up/           runs the whole stack on this machine
embedded/     runs real servers as child processes, for `up` and the tests
process/      signals, the screen, child processes
database      opens connections to PostgreSQL; the projector's too
database_connection  one of them, whose settings hold for each transaction
configured_rules  the rules with the words and the table of shapes that are set
native_lane   says which sources of the rules the native lane must be built from
tls_files     loads the files of TLS, and names one that does not hold
settings      declares every setting: its default, bounds, unit and description
environment   reads the settings from environment variables
passwords     finds and masks the passwords in URLs
places        parses the place of a record or a partition
telemetry     log lines and counters
log_stream    where log lines go, without holding up who writes them
errors        every error, by what the caller must do
program_start  how either program starts
command_line  how every command of either program begins and ends
exit_codes    what the exit code of a command says

As a library: `from normalizer import Normalizer` and the other six names of `__all__`. They open no
connection and read no clock. docs/library.md shows each.

Imports point one way, which import-linter checks: cli > up, jobs > service, relay > kafka, files,
store, embedded > process, database, command_line > database_connection > telemetry, environment >
configured_rules, native_lane, tls_files > settings > producer_models > core, json_schema >
envelope > program_start > snowflake, jsontext, passwords, exit_codes, log_stream, places > errors.
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
    """Import a name of the library when it is used: most commands need none of the rules."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'envelope')}"), name)
