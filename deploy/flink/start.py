"""Starts the Flink job that computes the figures, with empty tables or from its last checkpoint.

    /opt/normalizer/bin/python deploy/flink/start.py
    /opt/normalizer/bin/python deploy/flink/start.py --from-checkpoint s3://bucket/checkpoints/JOB/chk-42

A job that starts without a checkpoint counts from the beginning of the topic, so its tables must be
empty. If they have rows, this program refuses to start it: records that Kafka has deleted since
would be missing, and the job would lower figures that are right. A job that starts from a
checkpoint knows what it has already counted.

Environment: FIGURES_URL, KAFKA_BOOTSTRAP_SERVERS, KAFKA_CANONICAL_TOPIC, FLINK_HOME.
"""

import argparse
import asyncio
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg

_HERE: Final = Path(__file__).resolve().parent
_TABLES: Final = ("event_hours", "call_hours", "call_times", "error_hours", "partitions")


def main() -> None:
    """Check what the job starts from, make it the one job that may write, and submit it."""
    options = _options()
    try:
        url, bootstrap_servers, home = (
            os.environ[name] for name in ("FIGURES_URL", "KAFKA_BOOTSTRAP_SERVERS", "FLINK_HOME")
        )
        checkpoint = options.from_checkpoint and last_checkpoint(options.from_checkpoint)
        kafka = {"bootstrap.servers": bootstrap_servers, **_properties(options.kafka_properties)}
        job = f"figures-{secrets.token_hex(4)}"
        asyncio.run(_take_tables(url, job, must_be_empty=checkpoint is None))
    except KeyError as missing:
        sys.exit(f"set {missing.args[0]}")
    except (OSError, ValueError, asyncpg.PostgresError) as error:
        sys.exit(str(error))
    topic = os.environ.get("KAFKA_CANONICAL_TOPIC", "noetl.events.canonical")
    script = tables_script(url, job, topic, kafka)
    if checkpoint:
        script += f"\nSET 'execution.state-recovery.path' = {_quoted(checkpoint)};\n"
    _submit(Path(home), script, [unquote(urlsplit(url).password or ""), *_secrets(kafka)])
    print(f"{job} continues from {checkpoint}" if checkpoint else f"{job} starts from nothing")  # noqa: T201 - what it is for


def last_checkpoint(place: str) -> str:
    """The newest complete checkpoint in a local folder; a place elsewhere is one by itself.

    Raises ValueError if the folder has none.
    """
    at = urlsplit(place)
    if at.scheme not in {"", "file"}:
        return place
    folder = Path(unquote(at.path)).absolute()
    complete = [*folder.glob("_metadata"), *folder.rglob("chk-*/_metadata")]
    if not complete:
        message = f"no complete checkpoint in {folder}: name execution.checkpointing.dir"
        raise ValueError(message)
    return max(complete, key=lambda path: path.stat().st_mtime).parent.as_uri()


async def _take_tables(url: str, job: str, *, must_be_empty: bool) -> None:
    """Let this job alone write, once what others have begun to write is committed."""
    connection = await asyncpg.connect(url, timeout=30)
    try:
        async with connection.transaction():
            names = ", ".join(f"flink.{table}" for table in _TABLES)
            await connection.execute(f"lock table {names} in share row exclusive mode")
            for table in _TABLES if must_be_empty else ():
                if await connection.fetchval(f"select exists (select from flink.{table})"):
                    message = (
                        f"flink.{table} has rows, and a job that starts from nothing would count "
                        "them down. Continue from the last checkpoint: --from-checkpoint PLACE. "
                        "If there is none, README.md says how to count again what the topic has."
                    )
                    raise ValueError(message)
            await connection.execute("update flink.job set name = $1", job)
    finally:
        await connection.close()


def tables_script(url: str, job: str, topic: str, kafka: Mapping[str, str]) -> str:
    """tables.sql with these addresses in place of its own."""
    at = urlsplit(url)
    parameters = "&".join(filter(None, (at.query, f"ApplicationName={job}")))
    host = at.netloc.rpartition("@")[2]
    database = {
        "url": f"jdbc:postgresql://{host}{at.path}?{parameters}",
        "username": unquote(at.username or ""),
        "password": unquote(at.password or ""),
    }
    of_kafka = {f"properties.{name}": value for name, value in kafka.items()}
    replaced = {
        "'url' = 'jdbc:postgresql://postgres:5432/figures'": _format_options(database),
        "'properties.bootstrap.servers' = 'kafka:9092'": _format_options(of_kafka),
        "'topic' = 'noetl.events.canonical'": _format_options({"topic": topic}),
    }
    script = (_HERE / "tables.sql").read_text(encoding="utf-8")
    for default, own in replaced.items():
        script = script.replace(default, own)
    return script


def _format_options(options: Mapping[str, str]) -> str:
    return ",\n    ".join(
        f"'{name}' = {_quoted(value)}" for name, value in options.items() if value
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _properties(path: Path | None) -> dict[str, str]:
    """The names and values of a client.properties of Kafka's own tools."""
    lines = path.read_text(encoding="utf-8").splitlines() if path else []
    pairs = [line.partition("=") for line in lines if line.strip() and line.lstrip()[0] not in "#!"]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _secrets(kafka: Mapping[str, str]) -> list[str]:
    return [value for name, value in kafka.items() if re.search("password|secret|jaas", name)]


def _submit(home: Path, script: str, hidden: Sequence[str]) -> None:
    """Run the SQL client. Its output is shown only if it fails, and without secrets."""
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder) / "tables.sql"
        tables.touch(mode=0o600)
        tables.write_text(script, encoding="utf-8")
        files = f"{_HERE.parent / 'calls.py'},{_HERE / 'functions.py'}"
        done = subprocess.run(
            [home / "bin" / "sql-client.sh", "--init", tables, "--file", _HERE / "figures.sql",
             "--pyFiles", files, "--pyExecutable", sys.executable],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
    if done.returncode or "Job ID" not in done.stdout:
        printed = done.stdout
        for secret in filter(None, hidden):
            for form in (_quoted(secret), secret):
                printed = printed.replace(form, "***")
        sys.exit(f"Flink did not take the job:\n{printed[-4_000:]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start the job that keeps the figures.")
    parser.add_argument(
        "--from-checkpoint", metavar="PLACE",
        help="continue from this checkpoint, such as s3://bucket/checkpoints/JOB/chk-42, or from "
        "the newest one in this local folder",
    )  # fmt: skip
    parser.add_argument(
        "--kafka-properties", type=Path, metavar="FILE",
        help="a file with more properties of Kafka's clients, for example security.protocol="
        "SASL_SSL",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
