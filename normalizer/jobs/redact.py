"""Redacts secrets that today's rules find in stored rows, while other processes write.

It works in three steps. First it rewrites events, page by page from the run's position on, and
triggers update the projections. Then it redacts the texts about records, such as reasons in the
quarantine. Last come the names in the keys of counters, because a counter drops to zero only after
the last row with its name was rewritten.

The tables other than `events` have no key in common, so they're read in the physical order of their
rows (ctid), a number of blocks at a time. A row that changes moves to a later block and is read
there again, which does no harm, because it's redacted already. Only counters are read by time
instead, because their keys begin with a time, which redaction never changes.

A resumed run continues with the events where it stopped, but reads all other tables again. The
bytes of rejected records stay as they were received until retention deletes them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Final

from normalizer.core.redaction.redact_stored import (
    may_need_redaction,
    redact_row,
    redact_stored_text,
)
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.jobs.dry_run.diff import DryRunDiff, RowChange
from normalizer.jobs.dry_run.rewrite_dry_run import RewriteDryRun
from normalizer.jobs.engine.id_ranges import READ_EVENTS_IN_RANGE_SQL, FetchRows
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.renormalize import RewriteJob
from normalizer.jobs.rewritten_page import RewritePlan

_BLOCKS_A_STEP: Final = 64
"""How many 8 KiB blocks one step reads."""
_COUNTERS_A_STEP: Final = 20_000
"""About how many counters one statement reads. Counters of the same time stay together, so there
may be more."""

_TEXT_COLUMNS: Final = (
    ("normalizer.quarantine", "detail"),
    ("normalizer.quarantine", "sample"),
    ("normalizer.redrive_attempts", "detail"),
    ("normalizer.jobs", "spec"),
    ("normalizer.jobs", "reason"),
    ("normalizer.job_rejections", "detail"),
    ("normalizer.drift_findings", "example"),
    ("projector.verifications", "detail"),
    ("projector.deployment_marks", "playbook"),
    ("projector.deployment_marks", "version"),
)
"""The text columns that may quote a record, with their tables."""

RedactedCounts = Counter[str]
"""How many rows were changed, by table and column. In a dry run, how many would be changed at most.
"""


class RedactJob(RewriteJob):
    """One run. `counts` has all tables but events, whose rows are in the run's totals."""

    def __init__(self, runner: JobRunner, sanitizer: Sanitizer) -> None:
        super().__init__(runner, _rewrite_plan(sanitizer))
        self._others = _OtherTables(self._session.fetch, sanitizer, self._turn, writes=True)
        self.counts: RedactedCounts = self._others.counts

    async def _finish(self) -> None:
        await self._others.redact()

    async def _turn(self) -> bool:
        """Wait while live traffic has lag. Returns whether to continue."""
        await self._runner.throttle.acquire(0, self._stopping)
        return not self._stopping.is_set()


class RedactDryRun(RewriteDryRun):
    """Counts the changes of a run by table and column. It only reads, and shows no content."""

    def __init__(self, database_url: str, sanitizer: Sanitizer) -> None:
        super().__init__(database_url, _rewrite_plan(sanitizer), DryRunDiff(self._note))
        self._others = _OtherTables(self._session.fetch, sanitizer, self._turn, writes=False)
        self.counts: RedactedCounts = self._others.counts

    async def _compare_all(self) -> None:
        await super()._compare_all()
        await self._others.redact()

    async def _turn(self) -> bool:
        return True

    def _note(self, change: RowChange) -> None:
        self.counts.update(f"normalizer.events.{field}" for field in change.fields)


def format_redacted_counts(counts: RedactedCounts) -> Iterator[str]:
    """Yield the counts, one line each."""
    for table, rows in sorted(counts.items()):
        yield f"{rows:>12,} {table}"


def _rewrite_plan(sanitizer: Sanitizer) -> RewritePlan:
    return RewritePlan(
        find=READ_EVENTS_IN_RANGE_SQL,
        parameters=(),
        rewrite=partial(redact_row, sanitizer=sanitizer),
        may_change=partial(may_need_redaction, sanitizer=sanitizer),
    )


_BLOCKS: Final = """
    select pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint
"""

# Reads the texts in a range of blocks.
_READ_TEXTS: Final = """
    select ctid::text as row_id, {column} as said
    from   {table}
    where  ctid >= format('(%s,0)', $1::bigint)::tid and ctid < format('(%s,0)', $2::bigint)::tid
    and    {column} is not null
"""

# Changes texts, unless another process has changed them meanwhile.
_CHANGE_TEXTS: Final = """
    update {table} as kept
    set    {column} = wanted.becomes
    from   unnest($1::text[], $2::text[], $3::text[]) as wanted (row_id, was, becomes)
    where  kept.ctid = any($1::text[]::tid[])
    and    kept.ctid = wanted.row_id::tid
    and    kept.{column} = wanted.was
    returning 1
"""


# Finds the counter tables that have a text in their primary key, such as the name of a step,
# because that text may contain a secret. Each row of the result names the table, the text column,
# and the time column that comes first in the key.
_COUNTED_TEXTS: Final = """
    select   counter.relname::text as counter_table, name.attname::text as text_column,
             moment.attname::text as time_column
    from     pg_constraint as key
    join     pg_class      as counter on counter.oid = key.conrelid
    join     pg_attribute  as shard
             on  shard.attrelid = key.conrelid
             and shard.attname = 'shard'
             and shard.attnum = any(key.conkey)
    join     pg_attribute  as moment
             on  moment.attrelid = key.conrelid
             and moment.attnum = key.conkey[1]
    join     pg_attribute  as name
             on  name.attrelid = key.conrelid
             and name.attnum = any(key.conkey)
             and name.atttypid = 'text'::regtype
    where    key.contype = 'p'
    and      key.connamespace = 'projector'::regnamespace
    order by 1, 2
"""


# Returns where the next step ends, or null after the last step.
_STEP_END: Final = """
    select max(at)
    from   (
               select   {timed} as at
               from     projector.{counted_in}
               where    {timed} > coalesce($1::timestamptz, '-infinity')
               order by {timed}
               limit    $2::bigint
           ) as step
"""

# Reads the texts of counters in a range of times, with counts.
_READ_NAMES: Final = """
    select   {named} as said, count(*) as counters
    from     projector.{counted_in}
    where    {timed} > coalesce($1::timestamptz, '-infinity') and {timed} <= $2::timestamptz
    group by said
"""


_RENAME_COUNTS: Final = """
    select projector.rename_counter_keys(
               $1::text, $2::text, $3::text, coalesce($4::timestamptz, '-infinity'),
               $5::timestamptz, $6::text[], $7::text[]
           )
"""


class _OtherTables:
    """Redacts every table except events. Without `writes` it only reads.

    `turn` waits while live traffic has lag, and returns whether to continue.
    """

    def __init__(
        self,
        fetch: FetchRows,
        sanitizer: Sanitizer,
        turn: Callable[[], Awaitable[bool]],
        *,
        writes: bool,
    ) -> None:
        self._fetch = fetch
        self._redacted = partial(redact_stored_text, sanitizer=sanitizer)
        self._turn = turn
        self._writes = writes
        self.counts: RedactedCounts = Counter()

    async def redact(self) -> None:
        """Redact until `turn` returns False. Raises StoreUnavailableError and FatalError."""
        for table, column in _TEXT_COLUMNS:
            await self._redact_table(table, partial(self._redact_texts, table, column))
        for counted_in, named, timed in await self._fetch(_COUNTED_TEXTS):
            after: datetime | None = None
            while await self._turn():
                step_end = _STEP_END.format(counted_in=counted_in, timed=timed)
                ((until,),) = await self._fetch(step_end, after, _COUNTERS_A_STEP)
                if until is None:
                    break
                await self._redact_counts(counted_in, named, timed, (after, until))
                after = until

    async def _redact_table(
        self, table: str, redact: Callable[[int, int], Awaitable[bool]]
    ) -> None:
        """Redact in steps. If another process changed a row in the meantime, repeat the table."""
        is_done = False
        while not is_done:
            is_done, block = True, 0
            while block < (await self._fetch(_BLOCKS, table))[0][0]:
                if not await self._turn():
                    return
                is_done &= await redact(block, block + _BLOCKS_A_STEP)
                block += _BLOCKS_A_STEP

    async def _redact_texts(self, table: str, column: str, first: int, end: int) -> bool:
        rows = await self._fetch(_READ_TEXTS.format(table=table, column=column), first, end)
        changes = [
            (row["row_id"], row["said"], kept)
            for row in rows
            if (kept := self._redacted(row["said"])) != row["said"]
        ]
        done = len(changes)
        if changes and self._writes:
            columns = map(list, zip(*changes, strict=True))
            change = _CHANGE_TEXTS.format(table=table, column=column)
            done = len(await self._fetch(change, *columns))
        self._note(f"{table}.{column}", done)
        return done == len(changes)

    async def _redact_counts(
        self, counted_in: str, named: str, timed: str, times: tuple[datetime | None, datetime]
    ) -> None:
        read = _READ_NAMES.format(counted_in=counted_in, named=named, timed=timed)
        rows = await self._fetch(read, *times)
        changes = [
            (row["said"], kept)
            for row in rows
            if (kept := self._redacted(row["said"])) != row["said"]
        ]
        names = {said for said, _ in changes}
        done = sum(row["counters"] for row in rows if row["said"] in names)
        if changes and self._writes:
            columns = map(list, zip(*changes, strict=True))
            counters = (counted_in, named, timed, *times)
            done = (await self._fetch(_RENAME_COUNTS, *counters, *columns))[0][0]
        self._note(f"projector.{counted_in}.{named}", done)

    def _note(self, table: str, rows: int) -> None:
        if rows:
            self.counts[table] += rows
