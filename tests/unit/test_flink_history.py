"""deploy/flink/history.py, without Flink: what it asks of it, and what a worker answers."""

import importlib.util
import pickle
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from tests.support.engines import ROOT

RAW = b'{"execution_id":"7","name":"call.done","step":"s","payload":{"result":{"badge":"b-77"}}}'


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with a stand-in for the package of Flink."""
    udf = SimpleNamespace(FunctionContext=object, TableFunction=object, udtf=MagicMock())
    monkeypatch.setitem(sys.modules, "pyflink", ModuleType("pyflink"))
    monkeypatch.setitem(sys.modules, "pyflink.table", MagicMock())
    monkeypatch.setitem(sys.modules, "pyflink.table.udf", udf)
    spec = importlib.util.spec_from_file_location("history", ROOT / "deploy/flink/history.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def submitted(history: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[Any, str]:
    """The function of the job that is submitted, and its tables."""
    arguments = ["history.py", "--input", "in", "--output", "out", *options]
    monkeypatch.setattr(sys, "argv", arguments)
    history.main()
    tables = history.TableEnvironment.create.return_value
    statements = [call.args[0] for call in tables.execute_sql.call_args_list]
    return history.udtf.call_args.args[0], "\n".join(statements)


def test_a_worker_cuts_what_the_settings_name(
    history: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMALIZER_REDACT_KEYS", "badge")
    events_of, _ = submitted(history, monkeypatch)

    monkeypatch.delenv("NORMALIZER_REDACT_KEYS")
    monkeypatch.setitem(sys.modules, "history", history)
    worker = pickle.loads(pickle.dumps(events_of))  # noqa: S301 - its own
    worker.open(None)
    [event] = worker.eval(RAW)

    assert b"b-77" not in event[0]


def test_a_time_in_parquet_is_utc_wherever_the_worker_is(
    history: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, raw = submitted(history, monkeypatch)
    assert "utc-timezone" not in raw
    history.TableEnvironment.create.return_value.execute_sql.reset_mock()

    _, parquet = submitted(history, monkeypatch, "--format", "parquet")

    assert parquet.count("'format' = 'parquet', 'parquet.utc-timezone' = 'true'") == 1
