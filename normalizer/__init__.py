"""Normalizes the events of four producers into one envelope, stored exactly once in PostgreSQL.

The packages are listed in the order an event meets them. docs/flow.md follows one event the same
way, and each package lists its own modules like this.

service/      the loop (fetch, normalize, store, commit) and its monitoring
kafka/        reads records from Kafka, the only importer of aiokafka
core/         the rules, without I/O, clock, or randomness
envelope      the canonical event and its bytes, also for producers
producer_models  the Python server's requests as pydantic models
json_schema   the canonical event as JSON Schema
snowflake     mints, reads and derives ids
jsontext      parses JSON and keeps every number as it was written
store/        writes a batch in one transaction, the only code that writes events

relay/        the same loop, but it writes canonical events to a Kafka topic
jobs/         backfill, redrive, renormalize, redact, forget, and export, with the same core and
              store
files/        reads records from files
cli/          the commands
up/           runs the whole stack on this machine
embedded/     runs real servers as child processes, for `up` and the tests
process/      signals, the screen, child processes
native_lane   decides whether the native lane reads records before Python does
database      opens connections to PostgreSQL, for the projector too
database_connection  one such connection, which applies its settings in every transaction
configured_rules  the rules, with the operator's secret words and table of shapes
tls_files     loads the TLS files and names the one that cannot be used
settings      declares every setting: its default, bounds, unit and description
environment   reads the settings from environment variables
rule_sources  the hash of the rules, which the native lane carries
passwords     finds and masks the passwords in URLs
places        parses the place of a record or a partition
telemetry     log lines, masking of secrets, and counters
log_stream    writes log lines without ever blocking the process
errors        every error, sorted by what the caller must do
program_start  how either program starts
command_line  how every command of either program begins and ends
exit_codes    the exit codes of both programs

To use it as a library, import from here: `from normalizer import Normalizer`, or one of the other
six names in `__all__`. They open no connection and read no clock. docs/library.md shows each one.

Imports point one way, and import-linter checks it: cli > up, jobs > service, relay > kafka, files,
store, embedded > process, native_lane, database, command_line > database_connection > telemetry,
environment > configured_rules, tls_files > settings > producer_models > core, json_schema >
envelope > program_start > snowflake, jsontext, passwords, exit_codes, log_stream, places,
rule_sources > errors.
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
    """Import a public name on first use, because most commands don't need the rules."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'envelope')}"), name)
