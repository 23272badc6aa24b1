"""Writes and reads the ledger, which is a file that says what was sent and what really happened.

    begin      the seed, the mix and the topic
    record     the place of a record in Kafka, and the expected outcome of each event in it
    execution  how an execution really went, and the facts that its server reported
    call       one try of a command, and the facts that were reported about it

Each line is a JSON object of one of these kinds. `begin` is the first line, and the others are in
any order. Everything that happens on the platform is a fact with a number, and each event names the
fact that it reports. So a comparison knows which facts no event has reported, and doesn't expect a
dashboard to show them.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from simulator.facts import PlaybookRun
from simulator.mix import Mix
from simulator.rendering import ReportedFields
from simulator.sent_record import MustIgnore, MustReject, SentEvent, SentRecord
from simulator.view_fold import call_index

_INLINE_BYTES: Final = 200
"""Longer values are hashed. The context of a start event is shorter, and names the playbook."""

_encoder = msgspec.json.Encoder()


class ExpectedOutcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the normalizer must do with an event in a record: store, reject, or ignore it.

    If the event must be stored, `event` is a number that all reports of the same event share. It's
    the ledger's own number and not the event_id. `fact` is the number of the fact that the event
    reports. `reported` has the fields that the row must have, with long values replaced by a hash.
    `shares_id` is true if the platform gave its event_id to an earlier event too. If the event must
    be rejected, `quarantine` is the expected reason, and if it must be ignored, `ignored` says why.
    """

    event: int | None = None
    fact: int | None = None
    reported: ReportedFields | None = None
    shares_id: bool = False
    quarantine: str | None = None
    ignored: str | None = None


class LedgerHeader(msgspec.Struct, kw_only=True, tag="begin", tag_field="line"):
    """What was run."""

    topic: str
    seed: int
    mix: Mix


class RecordLine(msgspec.Struct, kw_only=True, omit_defaults=True, tag="record", tag_field="line"):
    """A record, with its place in the topic or the file.

    `ts` is the record's timestamp in milliseconds. `copy` is true if another record with the same
    bytes was sent before. `headers` has the record's Kafka headers that the normalizer may store,
    and `trace` is the trace id in them.
    """

    partition: int
    offset: int
    ts: int
    outcomes: list[ExpectedOutcome]
    copy: bool = False
    headers: dict[str, Any] = {}
    trace: str | None = None


class ExecutionLine(
    msgspec.Struct, kw_only=True, omit_defaults=True, tag="execution", tag_field="line"
):
    """One execution. `outcome` is '' if it never ended. `facts` are (kind, step, fact)."""

    number: int
    execution_id: int
    deployment: str
    playbook: str
    version: str
    catalog_id: int
    parent_execution_id: int | None = None
    outcome: str = ""
    facts: list[tuple[str, str, int]] = []


class CallLine(msgspec.Struct, kw_only=True, omit_defaults=True, tag="call", tag_field="line"):
    """One try of one command. `outcome` is '' if it never ended. `facts` are (kind, fact)."""

    execution_id: int
    command_id: str
    step: str
    node_type: str
    worker_id: str
    attempts: int
    max_attempts: int
    iteration: int | None = None
    index: int = 0
    outcome: str = ""
    facts: list[tuple[str, int]] = []


Line = LedgerHeader | RecordLine | ExecutionLine | CallLine

_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
decode = _decoder.decode


class Ledger:
    """Writes the lines: records when they get their coordinates, and executions when they end."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def begin(self, *, topic: str, seed: int, mix: Mix) -> None:
        """The first line."""
        self._line(LedgerHeader(topic=topic, seed=seed, mix=mix))

    def add_record(self, record: SentRecord, topic: str, partition: int, offset: int) -> None:
        """Write a record, which has got its coordinates."""
        del topic
        self._line(
            RecordLine(
                partition=partition,
                offset=offset,
                ts=record.timestamp_ms,
                outcomes=[_expected_outcome(outcome) for outcome in record.outcomes],
                copy=record.copy_of_earlier,
                headers=record.kept_headers,
                trace=record.trace_id,
            )
        )

    def add_execution(self, execution: PlaybookRun) -> None:
        """Write an execution that ended, got stuck, or was still running at the end."""
        parent = execution.parent
        self._line(
            ExecutionLine(
                number=execution.number,
                execution_id=execution.execution_id,
                deployment=execution.deployment.name,
                playbook=execution.playbook,
                version=execution.version,
                catalog_id=execution.catalog_id,
                parent_execution_id=None if parent is None else parent.execution_id,
                outcome=execution.outcome,
                facts=execution.facts,
            )
        )
        for call in execution.calls:
            self._line(
                CallLine(
                    execution_id=execution.execution_id,
                    command_id=call.command_id,
                    step=call.step,
                    node_type=call.node_type,
                    worker_id=call.worker,
                    attempts=call.attempts,
                    max_attempts=call.max_attempts,
                    iteration=call.iteration,
                    index=call.index,
                    outcome=call.outcome,
                    facts=call.facts,
                )
            )

    def _line(self, line: Line) -> None:
        self._write(_encoder.encode(line) + b"\n")


class LedgerFile(Ledger):
    """A ledger written to a file. `with` closes it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1024 * 1024)
        super().__init__(self._file.write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def read_ledger(path: Path) -> Iterator[Line]:
    """Yield the lines of a ledger file."""
    with path.open("rb") as file:
        for line in file:
            yield _decoder.decode(line)


def value_or_digest(value: Any) -> str | None:
    """Return a value as JSON text, or the text's hash if it's long, so that a ledger stays small.

    A comparison needs only these texts, because equal values have equal texts. That's why keys are
    sorted. Raw JSON inside the value is copied as it is, so its keys must be sorted already. For
    None, the result is None.
    """
    if value is None:
        return None
    text = msgspec.json.encode(value, order="sorted")
    if text == b"null":
        return None
    if len(text) <= _INLINE_BYTES:
        return text.decode()
    return f"blake2b:{blake2b(text, digest_size=12).hexdigest()}:{len(text)}"


def _expected_outcome(outcome: SentEvent | MustReject | MustIgnore) -> ExpectedOutcome:
    match outcome:
        case SentEvent(number, fact, reported, shares_id):
            fields = msgspec.structs.replace(
                reported,
                context=value_or_digest(reported.context),
                result=value_or_digest(reported.result),
                call_index=call_index({"context": reported.context, "result": reported.result}),
            )
            return ExpectedOutcome(event=number, fact=fact, reported=fields, shares_id=shares_id)
        case MustReject(reason):
            return ExpectedOutcome(quarantine=reason)
        case MustIgnore(why):
            return ExpectedOutcome(ignored=why)
