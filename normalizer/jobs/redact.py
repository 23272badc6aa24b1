"""Redacts secrets that today's rules find in stored rows, while other processes write.

It works in three steps. First it rewrites events, page by page from the run's position on, and
triggers update the projections. Then it redacts the texts about records, such as reasons in the
quarantine. Last come the names in the keys of counters, because a counter drops to zero only after
the last row with its name was rewritten.

A resumed run continues with the events where it stopped, but reads all other tables again. The
bytes of rejected records stay as they were received until retention deletes them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Final

from normalizer.core.redaction.redact_stored import may_hide, redact_row, redact_stored_text
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.jobs import redact_statements as statements
from normalizer.jobs.dry_run.diff import Diff, RowChange
from normalizer.jobs.dry_run.rewrite_dry_run import RewriteDryRun
from normalizer.jobs.engine.id_ranges import Fetch
from normalizer.jobs.engine.job_statements import ALL_EVENTS
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.renormalize import Rewrite
from normalizer.jobs.rewrite_rows import RewritePlan

BLOCKS_A_STEP: Final = 64
"""How many 8 KiB blocks one step reads."""
COUNTERS_A_STEP: Final = 20_000
"""About how many counters one statement reads. Counters of the same time stay together, so there
may be more."""

TEXTS: Final = (
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


class Redact(Rewrite):
    """One run. `counts` has every table except events, whose rows are in the run's totals."""

    def __init__(self, runner: JobRunner, sanitizer: Sanitizer) -> None:
        super().__init__(runner, _rewrite_plan(sanitizer))
        self._others = _OtherTables(self._session.fetch, sanitizer, self._turn, writes=True)

    @property
    def counts(self) -> RedactedCounts:
        """Return what this process has changed."""
        return self._others.counts

    async def _finish(self) -> None:
        await self._others.redact()

    async def _turn(self) -> bool:
        """Wait while live traffic has lag. Returns whether to continue."""
        await self._runner.throttle.acquire(0, self._stopping)
        return not self._stopping.is_set()


class RedactDryRun(RewriteDryRun):
    """Counts the changes of a run by table and column. It only reads, and shows no content."""

    def __init__(self, database_url: str, sanitizer: Sanitizer) -> None:
        super().__init__(database_url, _rewrite_plan(sanitizer), Diff(self._note))
        self._others = _OtherTables(self._session.fetch, sanitizer, self._turn, writes=False)
        self.counts: RedactedCounts = self._others.counts

    async def _compare_all(self) -> None:
        await super()._compare_all()
        await self._others.redact()

    async def _turn(self) -> bool:
        return True

    def _note(self, change: RowChange) -> None:
        self.counts.update(f"normalizer.events.{field}" for field in change.fields)


def redacted_lines(counts: RedactedCounts) -> Iterator[str]:
    """Yield the counts, one line each."""
    for table, rows in sorted(counts.items()):
        yield f"{rows:>12,} {table}"


def _rewrite_plan(sanitizer: Sanitizer) -> RewritePlan:
    return RewritePlan(
        find=ALL_EVENTS,
        parameters=(),
        rewrite=partial(redact_row, sanitizer=sanitizer),
        may_change=partial(may_hide, sanitizer=sanitizer),
    )


class _OtherTables:
    """Redacts every table except events. Without `writes` it only reads.

    `turn` waits while live traffic has lag, and returns whether to continue.
    """

    def __init__(
        self,
        fetch: Fetch,
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
        for table, column in TEXTS:
            await self._redact_table(table, partial(self._redact_texts, table, column))
        for counted_in, named, timed in await self._fetch(statements.COUNTED_TEXTS):
            after: datetime | None = None
            while await self._turn():
                step = (after, COUNTERS_A_STEP)
                until = (await self._fetch(statements.step_end(counted_in, timed), *step))[0][0]
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
            while block < (await self._fetch(statements.BLOCKS, table))[0][0]:
                if not await self._turn():
                    return
                is_done &= await redact(block, block + BLOCKS_A_STEP)
                block += BLOCKS_A_STEP

    async def _redact_texts(self, table: str, column: str, first: int, end: int) -> bool:
        rows = await self._fetch(statements.read_texts(table, column), first, end)
        changes = [
            (row["row_id"], row["said"], kept)
            for row in rows
            if (kept := self._redacted(row["said"])) != row["said"]
        ]
        done = len(changes)
        if changes and self._writes:
            columns = map(list, zip(*changes, strict=True))
            done = len(await self._fetch(statements.change_texts(table, column), *columns))
        self._note(f"{table}.{column}", done)
        return done == len(changes)

    async def _redact_counts(
        self, counted_in: str, named: str, timed: str, times: tuple[datetime | None, datetime]
    ) -> None:
        rows = await self._fetch(statements.read_names(counted_in, named, timed), *times)
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
            done = (await self._fetch(statements.RENAME_COUNTS, *counters, *columns))[0][0]
        self._note(f"projector.{counted_in}.{named}", done)

    def _note(self, table: str, rows: int) -> None:
        if rows:
            self.counts[table] += rows
