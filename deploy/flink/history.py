r"""Normalizes any amount of history by Flink's batch mode: files of raw records in, events out.

    flink run --parallelism 64 --pyExecutable /opt/normalizer/bin/python \
        --python deploy/flink/history.py \
        --input s3://bucket/raw --output s3://bucket/canonical --format parquet

The same Normalizer runs in each worker: its Python needs the packages of requirements.txt. Lines
are those of `normalizer normalize`, in any order: NORMALIZER_REDACT_KEYS and NORMALIZER_SHAPES are
followed, as they are set where the job is submitted. OUTPUT/events has one canonical event a line,
or Parquet; OUTPUT/rejected a line with reason and detail, without bytes, for each record or event
that was rejected.

Raw records are lines, or Parquet with a column `line` of bytes. As in the filter, an event without
an id of its own keeps none.
"""

import argparse
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import FunctionContext, TableFunction, udtf

from normalizer import Envelope, Ignored, Normalizer, RawRecord, Rejected, to_canonical
from normalizer.cli.exit_on_error import call_or_exit, load_settings_or_exit
from normalizer.config.configured_rules import read_shapes
from normalizer.core.decode.shape_table import ShapeTable

_EVENT: Final = {
    "line": "BYTES",
    "event_id": "BIGINT",
    "execution_id": "BIGINT",
    "event_type": "STRING",
    "created_at": "TIMESTAMP(6)",
    "shape": "STRING",
    "rules_version": "INT",
    "evidence": "INT",
    "max_attempts": "INT",
    "reason": "STRING",
    "detail": "STRING",
}
_TYPES: Final = {
    "BYTES": DataTypes.BYTES(),
    "BIGINT": DataTypes.BIGINT(),
    "INT": DataTypes.INT(),
    "STRING": DataTypes.STRING(),
    "TIMESTAMP(6)": DataTypes.TIMESTAMP(6),
}
_FORMATS: Final = {
    "raw": "'raw'",
    "json": "'json'",
    # Else times are those of the worker's own time zone.
    "parquet": "'parquet', 'parquet.utc-timezone' = 'true'",
}
Event = tuple[
    bytes | None, int | None, int | None, str | None, datetime | None, str | None, int | None,
    int | None, int | None, str | None, str | None,
]  # fmt: skip


class EventsOf(TableFunction):
    """One row for each event of a record, or for its rejection."""

    def __init__(self, redact_keys: tuple[str, ...], shapes: ShapeTable | None) -> None:
        self._rules = redact_keys, shapes

    def open(self, function_context: FunctionContext) -> None:
        """Make the rules, once a worker."""
        del function_context
        self._normalizer = Normalizer(*self._rules)

    def eval(self, line: bytes) -> Iterator[Event]:
        """Normalize one record. A blank line isn't a record."""
        if not line.strip():
            return
        for outcome in self._normalizer.normalize(RawRecord(value=line)):
            match outcome:
                case Envelope():
                    created_at = outcome.created_at and outcome.created_at.replace(tzinfo=None)
                    yield (
                        to_canonical(outcome), outcome.event_id, outcome.execution_id,
                        outcome.event_type, created_at, outcome.shape, outcome.normalizer_version,
                        outcome.evidence, outcome.max_attempts, None, None,
                    )  # fmt: skip
                case Rejected(reason=reason, detail=detail):
                    yield (*(None,) * 9, reason, detail)
                case Ignored():
                    pass


def main() -> None:
    """Submit the job, and wait for it."""
    options = _options()
    settings = load_settings_or_exit()
    shapes = call_or_exit(lambda: read_shapes(settings))
    tables = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
    events_of = udtf(
        EventsOf(settings.redact_keys, shapes),
        result_types=[_TYPES[kind] for kind in _EVENT.values()],
    )
    tables.create_temporary_function("events_of", events_of)
    events = _EVENT if options.format == "parquet" else {"line": "BYTES"}
    kept = [name for name in events if name not in {"reason", "detail"}]
    _create(tables, "raw_records", {"line": "BYTES"}, options.input, options.input_format)
    _create(tables, "events", {name: _EVENT[name] for name in kept},
            f"{options.output}/events", options.format)  # fmt: skip
    _create(tables, "rejected", {"reason": "STRING", "detail": "STRING"},
            f"{options.output}/rejected", "json")  # fmt: skip
    tables.execute_sql(
        f"""
        CREATE TEMPORARY VIEW outcomes AS
        SELECT outcome.*
        FROM   raw_records,
               LATERAL TABLE(events_of(raw_records.`line`)) AS outcome ({_names(_EVENT)})
        """
    )
    both = tables.create_statement_set()
    both.add_insert_sql(
        f"INSERT INTO events SELECT {_names(kept)} FROM outcomes WHERE `line` IS NOT NULL"
    )
    both.add_insert_sql(
        "INSERT INTO rejected SELECT reason, detail FROM outcomes WHERE reason IS NOT NULL"
    )
    both.execute().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Normalize files of raw records.")
    parser.add_argument("--input", required=True, help="a folder")
    parser.add_argument("--output", required=True, help="a folder, which need not exist")
    parser.add_argument("--input-format", choices=("raw", "parquet"), default="raw")
    parser.add_argument(
        "--format", choices=("raw", "parquet"), default="raw",
        help="raw: canonical lines; parquet: the same with columns to filter by",
    )  # fmt: skip
    return parser.parse_args()


def _create(
    tables: TableEnvironment, name: str, columns: dict[str, str], path: str, form: str
) -> None:
    listed = ", ".join(f"`{column}` {kind}" for column, kind in columns.items())
    tables.execute_sql(
        f"CREATE TEMPORARY TABLE {name} ({listed}) WITH "
        f"('connector' = 'filesystem', 'path' = '{path}', 'format' = {_FORMATS[form]})"
    )


def _names(columns: Any) -> str:
    return ", ".join(f"`{column}`" for column in columns)


if __name__ == "__main__":
    main()
