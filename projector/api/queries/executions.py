"""Lists of executions: all, stuck, without an end, contradicting, completed with failures."""

from datetime import datetime

from projector.api.answers import Page, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import Ids, Listed, ListedWindow, Texts
from projector.api.queries.asking import page


class ExecutionsAsked(ListedWindow, frozen=True, kw_only=True):
    """Parameters."""

    playbook: Texts | None = None
    status: Texts | None = None
    execution: Ids | None = None


class Execution(Row, frozen=True, kw_only=True):
    """status: RUNNING, or how its earliest lifecycle end says; contradicting: its ends disagree."""

    execution_id: str
    playbook: str
    version: str | None
    status: str
    first_at: datetime
    last_at: datetime
    ended_at: datetime | None
    duration_s: float | None
    events: int
    highest_attempts: int | None
    failed_calls: int
    contradicting: bool
    active_after_end: bool
    last_event_type: str
    last_step: str
    catalog_id: str | None
    parent_execution_id: str | None
    archived: int


EXECUTION_COLUMNS = """
    execution_id::text, playbook, version, status, first_at, last_at, ended_at, duration_s, events,
    highest_attempts, failed_calls, contradicting, active_after_end, last_event_type, last_step,
    catalog_id::text, parent_execution_id::text, archived
"""
_EXECUTIONS = Statement(f"""
    select   {EXECUTION_COLUMNS}, first_at as after_at, execution_id as after_id
    from     projector.executions
    where    hour >= :since::timestamptz and hour < :until::timestamptz
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (:status::text[] is null or status = any(:status))
    and      (:execution::bigint[] is null or execution_id = any(:execution))
    and      (
                 :after_at::timestamptz is null
                 or (hour, first_at, executions.execution_id)
                    < (projector.hour_of(:after_at), :after_at, :after_id::bigint)
             )
    order by hour desc, first_at desc, executions.execution_id desc
    limit    :limit::integer
""")  # noqa: S608 - columns of ours


async def executions(snapshot: Snapshot, asked: ExecutionsAsked) -> Page[Execution]:
    """How does each execution stand? The newest first; the window is over their first events."""
    return await page(
        snapshot, _EXECUTIONS, asked, Execution, after={"after_at": datetime, "after_id": int}
    )


class StuckAsked(Listed, frozen=True, kw_only=True):
    """Parameters."""

    playbook: Texts | None = None
    execution: Ids | None = None


class Stuck(Row, frozen=True, kw_only=True):
    """age_s: since its first event; silent_s: since its last."""

    execution_id: str
    playbook: str
    first_at: datetime
    last_at: datetime
    age_s: float
    silent_s: float
    last_event_type: str
    last_step: str
    events: int
    highest_attempts: int | None


_STUCK = Statement("""
    select   execution_id::text, playbook, first_at, last_at, age_s, silent_s, last_event_type,
             last_step, events, highest_attempts, last_at as after_at, execution_id as after_id
    from     projector.stuck_executions
    where    (:playbook::text[] is null or playbook = any(:playbook))
    and      (:execution::bigint[] is null or execution_id = any(:execution))
    and      (
                 :after_at::timestamptz is null
                 or (last_at, stuck_executions.execution_id) > (:after_at, :after_id::bigint)
             )
    order by last_at, stuck_executions.execution_id
    limit    :limit::integer
""")


async def stuck_executions(snapshot: Snapshot, asked: StuckAsked) -> Page[Stuck]:
    """Which executions have not ended and are silent for 5 minutes? The longest silent first."""
    return await page(snapshot, _STUCK, asked, Stuck, after={"after_at": datetime, "after_id": int})


class OpenEndedAsked(Listed, frozen=True, kw_only=True):
    """Parameters."""

    playbook: Texts | None = None


class OpenEnded(Row, frozen=True, kw_only=True):
    """silent_s: since its last event; null where nobody reads the log that it came from."""

    execution_id: str
    playbook: str
    calls: int
    last_finished_at: datetime
    last_at: datetime
    silent_s: float | None


_OPEN_ENDED = Statement("""
    select   execution_id::text, playbook, calls, last_finished_at, last_at, silent_s,
             hour as after_hour, execution_id as after_id
    from     projector.executions_without_end
    where    (:playbook::text[] is null or playbook = any(:playbook))
    and      (
                 :after_hour::timestamptz is null
                 or (hour, executions_without_end.execution_id) > (:after_hour, :after_id::bigint)
             )
    order by hour, executions_without_end.execution_id
    limit    :limit::integer
""")


async def executions_without_end(snapshot: Snapshot, asked: OpenEndedAsked) -> Page[OpenEnded]:
    """Which executions have finished all their calls and yet no end? The oldest first."""
    return await page(
        snapshot, _OPEN_ENDED, asked, OpenEnded, after={"after_hour": datetime, "after_id": int}
    )


class EndedAsked(ListedWindow, frozen=True, kw_only=True):
    """Parameters."""

    playbook: Texts | None = None


class Contradiction(Row, frozen=True, kw_only=True):
    """The first event of each kind of end, and the last that is neither an end nor its report."""

    execution_id: str
    playbook: str
    status: str
    ended_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None
    cancelled_at: datetime | None
    last_activity_at: datetime | None
    contradicting: bool
    active_after_end: bool


_CONTRADICTIONS = Statement("""
    select   execution_id::text, playbook, status, ended_at, completed_at, failed_at, cancelled_at,
             last_activity_at, contradicting, active_after_end, ended_at as after_at,
             execution_id as after_id
    from     projector.contradicting_executions
    where    hour >= :since::timestamptz and hour < :until::timestamptz
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (
                 :after_at::timestamptz is null
                 or (hour, ended_at, contradicting_executions.execution_id)
                    < (projector.hour_of(:after_at), :after_at, :after_id::bigint)
             )
    order by hour desc, ended_at desc, contradicting_executions.execution_id desc
    limit    :limit::integer
""")


async def contradicting_executions(snapshot: Snapshot, asked: EndedAsked) -> Page[Contradiction]:
    """Which executions ended in two ways, or went on after their end? By when they ended."""
    return await page(
        snapshot,
        _CONTRADICTIONS,
        asked,
        Contradiction,
        after={"after_at": datetime, "after_id": int},
    )


class Flawed(Row, frozen=True, kw_only=True):
    """failed_calls: its tries that failed; a failure that a retry made good counts too."""

    execution_id: str
    playbook: str
    ended_at: datetime
    failed_calls: int
    last_failed_at: datetime


_FLAWED = Statement("""
    select   execution_id::text, playbook, ended_at, failed_calls, last_failed_at,
             ended_at as after_at, execution_id as after_id
    from     projector.completed_with_failures
    where    hour >= :since::timestamptz and hour < :until::timestamptz
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (
                 :after_at::timestamptz is null
                 or (hour, ended_at, completed_with_failures.execution_id)
                    < (projector.hour_of(:after_at), :after_at, :after_id::bigint)
             )
    order by hour desc, ended_at desc, completed_with_failures.execution_id desc
    limit    :limit::integer
""")


async def completed_with_failures(snapshot: Snapshot, asked: EndedAsked) -> Page[Flawed]:
    """Which executions completed although a call of theirs failed? By when they ended."""
    return await page(
        snapshot, _FLAWED, asked, Flawed, after={"after_at": datetime, "after_id": int}
    )
