"""The simulator by itself: same seed and same bytes, every shape, places, lines, and ledger."""

import base64
import io
import json
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from aiokafka.partitioner import DefaultPartitioner

from normalizer.core.rules.event_types import EVENT_TYPE_SPELLINGS
from normalizer.errors import REJECTION_REASONS
from simulator import status_words, time_formats
from simulator.deployments import DEPLOYMENTS
from simulator.expected_views import expected_views
from simulator.ledger_file import (
    CallLine,
    ExecutionLine,
    Ledger,
    LedgerFile,
    LedgerHeader,
    RecordLine,
    decode,
    read_ledger,
    value_or_digest,
)
from simulator.mix import Mix
from simulator.sent_record import MustIgnore, MustReject, SentEvent, SentRecord
from simulator.simulator_run import SimulatorRun, write_lines
from simulator.topic_records import keyed_partition, records
from tests.support.simulator_pipeline import simulated_log

DAY_US = 86_400_000_000


def play(number: int = 300, seed: int = 1, **mix: object) -> list[SentRecord]:
    stream = records(Mix(**mix), seed)  # type: ignore[arg-type]
    played = [next(stream) for _ in range(number)]
    stream.close()
    return played


def sent(record: SentRecord) -> tuple[object, ...]:
    return record.key, record.value, record.headers, record.timestamp_ms, record.partition


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert list(map(sent, play())) == list(map(sent, play()))


def test_a_ledger_changes_no_byte() -> None:
    written: list[bytes] = []
    ledger = Ledger(written.append)
    played = []
    with closing(SimulatorRun().records(ledger)) as stream:
        for offset, record in enumerate(islice(stream, 300)):
            ledger.add_record(record, "t", record.partition, offset)
            played.append(sent(record))

    assert played == list(map(sent, play()))
    assert len(written) > 300


def test_retries_are_numbered_in_every_way() -> None:
    shares = {one.name: float(one.reissues) for one in DEPLOYMENTS}
    lines = simulated_log(Mix(failing=0.7, mutated=0.0, deployments=shares), 1, 6_000)[1]
    views = list(expected_views(lines))
    ways = Counter(how for one in views for how, _ in one.inferred_calls.values())

    assert ways.keys() >= {
        "the issuer numbers nothing, the worker nothing",
        "the issuer numbers all, the worker nothing",
        "the issuer numbers retries only, the worker nothing",
        "the issuer numbers nothing, the worker all",
        "the issuer numbers nothing, the worker retries only",
        "the issuer numbers retries only, the worker retries only",
        "the issuer numbers all, the worker retries only",
    }
    # Of some commands everything is numbered.
    assert any(len(really) > 1 for one in views for really in one.real_calls.values())


def test_every_poison_is_played() -> None:
    reasons = Counter(
        outcome.reason if isinstance(outcome, MustReject) else outcome.why
        for record in play(3_000, poison=0.5)
        for outcome in record.outcomes
        if isinstance(outcome, MustReject | MustIgnore)
    )

    of_no_record = {"missing_time", "rejected_by_database", "skipped"}
    assert set(reasons) == {*REJECTION_REASONS, "tombstone", "empty_batch"} - of_no_record


def test_every_report_has_a_shape_to_be_compared_with() -> None:
    shapes = {
        outcome.reported.shape
        for record in play(2_000, deployments={"command_line": 1e9})
        for outcome in record.outcomes
        if isinstance(outcome, SentEvent)
    }

    assert shapes == {"executor", "unknown", "python_request"}


def test_every_coercion_is_played() -> None:
    rules = Counter(
        rule
        for record in play(4_000, mutated=1.0, in_flight=20)
        for outcome in record.outcomes
        if isinstance(outcome, SentEvent)
        for rule in outcome.reported.rules
    )

    assert {
        "alias_conflict",
        "created_at_unreadable",
        "duration_invalid",
        "invalid_secondary_id",
        "meta_not_object",
        "opaque_id",
        "status_not_text",
        "status_overruled",
        "status_unmapped",
    } <= set(rules)


@pytest.mark.parametrize("key", [b"187354526515462145", b"cli-local-1", b"", b"\xff\xfe"])
def test_a_key_lies_where_every_client_puts_it(key: bytes) -> None:
    partitions = list(range(6))

    assert keyed_partition(key, 6) == DefaultPartitioner()(key, partitions, partitions)


def test_a_value_that_is_no_text_is_written_in_base64() -> None:
    file = io.BytesIO()
    write_lines(SimulatorRun(mix=Mix(poison=0.5), events=400), file, "t", Ledger(lambda _: None))
    written = [json.loads(line) for line in file.getvalue().splitlines()]

    arrow = [line for line in written if "payload_b64" in line]
    assert any(base64.b64decode(line["payload_b64"]).startswith(b"ARROW1") for line in arrow)
    assert {"topic", "partition", "offset", "ts", "key", "payload"} <= set(written[0])


def test_a_ledger_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written: list[bytes] = []
    with LedgerFile(tmp_path / "ledger") as ledger:
        write_lines(SimulatorRun(events=300, seed=3), io.BytesIO(), "t", ledger)
    write_lines(SimulatorRun(events=300, seed=3), io.BytesIO(), "t", Ledger(written.append))

    lines = list(read_ledger(tmp_path / "ledger"))
    assert lines == [decode(line) for line in written]
    assert isinstance(lines[0], LedgerHeader)
    assert {type(line) for line in lines} == {LedgerHeader, RecordLine, ExecutionLine, CallLine}


def test_sealed_values_are_equal_if_the_values_are() -> None:
    long = {"b": "x" * 200, "a": [1, {"d": None, "c": 2.5}]}

    assert value_or_digest(long) == value_or_digest(dict(reversed(long.items())))
    assert value_or_digest(long) != value_or_digest(long | {"e": 1})
    assert value_or_digest(None) is value_or_digest(msgspec.Raw(b"null")) is None
    assert value_or_digest({}) == "{}"


def test_a_ledger_keeps_of_which_call_a_long_context_is(tmp_path: Path) -> None:
    with LedgerFile(tmp_path / "ledger") as ledger:
        write_lines(SimulatorRun(events=3_000, seed=3), io.BytesIO(), "t", ledger)
    outcomes = [
        outcome
        for line in read_ledger(tmp_path / "ledger")
        if isinstance(line, RecordLine)
        for outcome in line.outcomes
    ]

    long = [
        outcome.reported.call_index
        for outcome in outcomes
        if outcome.reported and (outcome.reported.context or "").startswith("blake2b")
    ]

    assert {0, 1} < set(long)


@pytest.mark.parametrize("clock", time_formats.PYTHON_FORMATS, ids=lambda clock: clock.__name__)
def test_a_written_time_means_what_it_says(clock: time_formats.TimeFormat) -> None:
    at_us = 1_748_736_123_456_789

    written, kept_us = clock(at_us)

    assert 0 <= at_us - kept_us < 1_000_000
    assert written != clock(at_us + DAY_US)[0]


def test_every_spelling_and_every_word_means_one_thing() -> None:
    spellings = [name for names in status_words.EVENT_NAMES.values() for name in names]
    meanings = [{word.lower() for word in said} for said in status_words.CALL_WORDS.values()]

    known = {name for names in EVENT_TYPE_SPELLINGS for name in names}
    assert known - set(spellings) == set()
    assert len(spellings) == len(set(spellings))
    assert sum(map(len, meanings)) == len(set().union(*meanings))
