"""Raw events of four producers in, one canonical envelope out, exactly once in PostgreSQL.

In the order an event meets them; docs/flow.md walks the same way with one event in hand, and each
package lists its modules like this one.

service/      the loop: fetch, normalize, store, advance; and how it goes
kafka/        records in; the only importer of aiokafka
core/         no I/O, no clock, no chance: a record becomes canonical events, and tellings one row
envelope      the canonical event and its bytes: a library for producers too
snowflake     ids: minted, read, derived
jsontext      JSON that keeps its numbers as they were written
store/        one batch, one transaction: the only place that writes events

jobs/         backfill, renormalize, redrive, export: the same core and store
files/        records of files
cli/          the commands, and what an operator asks
up/           the whole stack on this machine
embedded/     real servers as child processes, for `up` and the tests
process/      signals, the screen, child processes
settings      from the environment
telemetry     log lines and counters
errors        what the caller must do

As a library: `from normalizer import Normalizer` and the other six names of `__all__`. They open no
connection and read no clock or setting; docs/library.md shows each of them.

Imports point one way, and import-linter sees to it: cli > up, jobs > service > kafka, files, store,
embedded > process > telemetry > settings > core > envelope > snowflake, jsontext > errors.
"""

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
