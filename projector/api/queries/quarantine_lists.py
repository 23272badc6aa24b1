"""Counts rejected records by reason and wire shape, lists them, and shows one of them."""

import shlex
from typing import Annotated, Any, Final, Literal

import msgspec

from normalizer.envelope import RULES_VERSION
from normalizer.errors import RejectionReason
from projector.api.answers import ApiAnswer, ApiRow, GroupedAnswer, PagedAnswer, Timestamp
from projector.api.api_errors import NotFoundError
from projector.api.parameters import (
    GroupBy,
    GroupedParams,
    Ids,
    MinuteToDay,
    PagedWindowParams,
    Parameters,
    Reasons,
    Shapes,
    Texts,
    parse_path_id,
)
from projector.api.queries.grouping import GrainStatements, grouping_statement, sum_column
from projector.api.queries.query_answers import build_answer, run_grouped, run_paged
from projector.api.snapshots import Snapshot, Statement


class RejectedRecordCountsParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "reason", "shape"], ...], GroupBy] = ("reason", "shape")
    every: MinuteToDay = "hour"
    reason: Reasons | None = None
    shape: Shapes | None = None


class RejectedRecordCounts(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`rejected` is the number of records and events that went to quarantine."""

    at: Timestamp | None = None
    reason: str | None = None
    shape: str | None = None
    rejected: int


REJECTED_RECORDS_SOURCE: Final = """
    (
        select quarantined_at, reason, shape, 1 as rejected
        from   projector.quarantine_records
        where  quarantined_at >= :since::timestamptz and quarantined_at < :until::timestamptz
    ) as rejections
"""
"""Rejected records, to count them by minute."""


def _counted(source: str, time: str) -> Statement:
    return grouping_statement(
        source, keys=("reason", "shape"), measures=(sum_column("rejected"),), time=time
    )


_QUARANTINE = GrainStatements(
    hours=_counted("projector.quarantine_by_reason", "hour"),
    minutes=_counted(REJECTED_RECORDS_SOURCE, "quarantined_at"),
    slow_minutes=True,
)


async def quarantine_by_reason(
    snapshot: Snapshot, params: RejectedRecordCountsParams
) -> GroupedAnswer[RejectedRecordCounts]:
    """How many records were rejected, by reason and shape?"""
    return await run_grouped(snapshot, _QUARANTINE, params, RejectedRecordCounts)


class QuarantineRecordsParams(PagedWindowParams, frozen=True, kw_only=True):
    reason: Reasons | None = None
    shape: Shapes | None = None
    topic: Texts | None = None
    execution: Ids | None = None


class QuarantinedRecord(ApiRow, frozen=True, kw_only=True):
    """A rejected record, or a rejected event of a batch whose other events may be stored.

    `sample` is the beginning of the record's bytes as text. It's null if the bytes aren't text, or
    if anything in the whole record could be a secret. `execution_id` is read from the record's
    value, or else from its key, and `execution_id_source` says from which. Both are null if neither
    can be read.
    """

    quarantine_id: str
    quarantined_at: Timestamp
    reason: str
    detail: str
    sqlstate: str | None
    shape: str
    normalizer_version: int
    topic: str
    incarnation: int
    partition: int
    source_offset: str
    source_index: int
    recorded_at: Timestamp | None
    value_bytes: int
    redriven_at: Timestamp | None
    sample: str | None
    execution_id: str | None
    execution_id_source: Literal["value", "key"] | None


QUARANTINED_RECORD_COLUMNS = """
    quarantine_id::text, quarantined_at, reason, detail, sqlstate, shape, normalizer_version, topic,
    incarnation, partition, source_offset::text, source_index, recorded_at, value_bytes,
    redriven_at, sample, execution_id::text, execution_id_source
"""
_REFUSED = Statement(f"""
    select   {QUARANTINED_RECORD_COLUMNS}, quarantined_at as after_at, quarantine_id as after_id
    from     projector.quarantine_records
    where    quarantined_at >= :since::timestamptz and quarantined_at < :until::timestamptz
    and      (:reason::text[] is null or reason = any(:reason))
    and      (:shape::text[] is null or shape = any(:shape))
    and      (:topic::text[] is null or topic = any(:topic))
    and      (:execution::bigint[] is null or execution_id = any(:execution))
    and      (
                 :after_at::timestamptz is null
                 or (quarantined_at, quarantine_records.quarantine_id)
                    < (:after_at, :after_id::bigint)
             )
    order by quarantined_at desc, quarantine_records.quarantine_id desc
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


async def quarantine_records(
    snapshot: Snapshot, params: QuarantineRecordsParams
) -> PagedAnswer[QuarantinedRecord]:
    """Which records were rejected, why, and what are their first bytes? The newest first."""
    return await run_paged(snapshot, _REFUSED, params, QuarantinedRecord)


EXPLANATIONS_BY_REASON: Final[dict[RejectionReason, str]] = {
    "too_large": "exceeds a size limit",
    "unsupported_framing": "has the header of a schema registry, but what follows is not JSON",
    "invalid_utf8": "is not UTF-8",
    "invalid_json": "is not JSON, or holds a number beyond the limits",
    "too_deep": "nests too deep",
    "not_an_event": "is not an object, or has no event type",
    "missing_execution_id": "names no execution",
    "invalid_id": "has an execution_id or event_id that cannot be an id",
    "missing_time": "has no time, nor has the log",
    "rejected_by_database": "was rejected by PostgreSQL because of the values in its row",
    "skipped": "was skipped by an operator",
}
"""Why a record is rejected for each reason. Source: docs/spec/wire-shapes.md#l2."""


_MISSING: Final[dict[RejectionReason, str]] = {
    "missing_execution_id": "execution_id=ID",
    "missing_time": "created_at=TIME",
}
"""What `--set` gives a record that lacks it. The operator fills in the value."""


class RedriveTry(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to redrive. `outcome` is redriven, rejected (again), or gone (already deleted)."""

    tried_at: Timestamp
    tried_by: str
    outcome: str
    detail: str
    normalizer_version: int
    job_id: str
    run: int


class ShellCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command that an operator can copy into a shell. The API never runs it."""

    purpose: str
    command: str


class QuarantinedRecordDetail(QuarantinedRecord, frozen=True, kw_only=True):
    """A rejected record, with what an operator needs to decide about it.

    `rule` says why it was rejected. `tries` lists the attempts to redrive it, newest first, without
    dry runs. `current_rules` is the version of this server's rules. As long as it equals
    `normalizer_version`, the version that rejected the record, a redrive would most likely reject
    it again. `commands` are shell commands for the operator. The API never runs them.
    """

    coordinates: str
    rule: str
    current_rules: int
    tries: list[RedriveTry]
    commands: list[ShellCommand]


async def quarantine_record(
    snapshot: Snapshot, _params: Parameters, quarantine_id: str
) -> ApiAnswer[QuarantinedRecordDetail]:
    """Why was this record rejected, which tries to redrive it failed, and what can be typed?"""
    key = {"id": parse_path_id(quarantine_id)}
    records = await snapshot.untyped_rows(_RECORD, key)
    if not records:
        raise NotFoundError("there is no such quarantined record")
    (record,) = records
    coordinates = f"{record['topic']}:{record['partition']}:{record['source_offset']}"
    tries = await snapshot.rows(_TRIES, key, RedriveTry)
    row = QuarantinedRecordDetail(
        **record,
        coordinates=coordinates,
        rule=f"the record {EXPLANATIONS_BY_REASON[record['reason']]}",
        current_rules=RULES_VERSION,
        tries=tries,
        commands=_commands(record, coordinates, tries),
    )
    return build_answer(snapshot, [row])


def _commands(record: Any, coordinates: str, tries: list[RedriveTry]) -> list[ShellCommand]:
    """Return commands that still do something. A redriven record can't be redriven again."""
    entry = record["quarantine_id"]
    # A redrive skips records that today's rules have already tried.
    again = " --again" if any(one.normalizer_version >= RULES_VERSION for one in tries) else ""
    redrive = f"normalizer quarantine redrive --id {entry}{again}"
    of_reason = f"--reason {record['reason']}"
    commands = {
        "show the whole record, redacted": f"normalizer quarantine show {entry}",
        "explain what happened to it": f"normalizer explain {shlex.quote(coordinates)}",
    }
    if record["redriven_at"] is None:
        # The record itself lacks a field, so the rules alone would reject it again.
        missing = _MISSING.get(record["reason"])
        given, what = (
            (f" --set {missing}", "the missing field") if missing else ("", "the current rules")
        )
        commands |= {f"try {what} without writing": f"{redrive}{given} --dry-run"}
        commands |= {f"redrive it with {what}": f"{redrive}{given}"}
    commands |= {
        "list all with this reason": f"normalizer quarantine list {of_reason}",
        "try all with this reason without writing": (
            f"normalizer quarantine redrive {of_reason} --dry-run"
        ),
    }
    return [ShellCommand(purpose=purpose, command=text) for purpose, text in commands.items()]


_RECORD: Final = Statement(f"""
    select {QUARANTINED_RECORD_COLUMNS}
    from   projector.quarantine_records
    where  quarantine_id = :id::bigint
""")  # noqa: S608 - constants of this package
_TRIES: Final = Statement("""
    select   tried_at, tried_by, outcome, detail, normalizer_version, job_id, run
    from     projector.redrive_attempts
    where    quarantine_id = :id::bigint
    order by tried_at desc
    limit    50
""")
