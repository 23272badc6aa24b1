"""Loads canonical records into ClickHouse's engine (chdb) with the SQL of deploy/clickhouse.

It's a program for a Python that has chdb, with three arguments: a folder to work in, a file of
records, and a file to write rows to. A record is a line `[value, names of headers, their values]`.
Every record is loaded twice, the second time after the calls of the first were computed. There is
no Kafka, so its table is replaced by one that stores nothing.
"""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import chdb
from chdb import session

DEPLOY: Final = Path(__file__).parents[2] / "deploy"

_TOPIC: Final = """
    create table normalizer.canonical_topic (
        line String, `_headers.name` Array(String), `_headers.value` Array(String)
    ) engine = Null
"""
_LOAD: Final = """
    insert into normalizer.canonical_topic
    select record.1, record.2, record.3
    from   (
               select JSONExtract(line, 'Tuple(String, Array(String), Array(String))') as record
               from   file('{}', 'LineAsString', 'line String')
           )
"""


def main(work: Path, records: Path, found: Path, *views: str) -> None:
    """Write {view: rows, ...} and what took how long."""
    functions = work / "functions"
    functions.mkdir(parents=True)
    shutil.copyfile(DEPLOY / "clickhouse" / "functions.xml", functions / "udf_config.xml")
    shutil.copy(DEPLOY / "calls.py", functions / "calls.py")
    chdb.query("select 1", udf_path=str(functions))
    server = session.Session(str(work / "data"))

    def ask(statement: str, form: str = "TabSeparated") -> str:
        return str(server.query(statement, form))

    took: dict[str, float] = {}
    for statement in statements("events.sql"):
        ask(_TOPIC if "engine = Kafka" in statement else statement)
    took["load"] = _timed(lambda: ask(_LOAD.format(records)))
    for statement in statements("figures.sql"):
        ask(statement)
    took["fold"] = _timed(lambda: ask("system wait view projector.fold_executions"))
    ask(_LOAD.format(records))
    ask("system refresh view projector.fold_executions")
    ask("system wait view projector.fold_executions")

    rows: dict[str, list[list[object]]] = {}
    for view in views:
        began = time.monotonic()
        lines = ask(f"select * from projector.{view}", "JSONCompactEachRow").splitlines()
        took[view] = time.monotonic() - began
        rows[view] = [json.loads(line) for line in lines]
    counts = ask("select count(), uniqExact(execution_id, event_id) from normalizer.events").split()
    size = ask(
        "select sum(data_compressed_bytes) from system.columns where database = 'normalizer'"
    )
    answer = {"rows": rows, "took_s": took, "copies": int(counts[0]), "events": int(counts[1]),
              "bytes": int(size), "version": chdb.__version__}  # fmt: skip
    found.write_text(json.dumps(answer))


def statements(name: str) -> Iterator[str]:
    """The statements of a file of deploy/clickhouse."""
    text = re.sub(r"--.*", "", (DEPLOY / "clickhouse" / name).read_text())
    yield from (one for one in re.split(r";\s*(?:\n|\Z)", text) if one.strip())


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
