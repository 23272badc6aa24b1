"""Runs one job, with everything that all jobs share.

The runner makes sure that no other process runs the same job, writes a heartbeat, prints progress,
and pauses the job while live traffic has lag. A stop lets the batch in flight commit, within a
deadline. However the run ends, its result is stored, so that `normalizer jobs` can list it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from normalizer.config.settings import Settings
from normalizer.errors import (
    FatalError,
    FencedError,
    NormalizerError,
    PositionError,
    RetryableError,
    StoreUnavailableError,
    pick_error_by_kind_order,
)
from normalizer.jobs.engine.job_run import JobRun, RunHeartbeat, RunState
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunProgressPrinter, RunResult
from normalizer.jobs.engine.throttle import Throttle
from normalizer.runtime.backoff import backoff_delay_s, wait_at_most
from normalizer.runtime.logging_setup import OutageLogger, get_logger
from normalizer.runtime.signals import stop_on_signals

_HEARTBEAT_EVERY_S: Final = 1.0

JobWork = Callable[[JobRun, asyncio.TaskGroup], Awaitable[str | None]]
"""The work of a job. It returns soon after a stop. Its result says why the source was truncated, or
is None."""

_log: Final = get_logger()


class JobRunner:
    """Runs one job once. After `stop`, the same command resumes the job."""

    def __init__(
        self,
        settings: Settings,
        spec: JobSpec,
        *,
        throttle: Throttle,
        progress: RunProgressPrinter,
    ) -> None:
        self.settings = settings
        self.database_url = settings.required_database_url
        self.spec = msgspec.structs.replace(spec, redact_keys=settings.redact_keys)
        self.throttle = throttle
        self.stopping = asyncio.Event()
        self._progress = progress
        self._finished = asyncio.Event()
        self._deadline = asyncio.timeout(None)

    def stop(self) -> None:
        """Stop the run. The transaction that has begun may still commit within the deadline.

        No other transaction begins, and other batches in memory are dropped. Nothing is lost,
        because the next run of the same command reads their records again.
        """
        _log.info("job.stopping", deadline_s=self.settings.stop_timeout_s)
        self.stopping.set()
        self._finished.set()

    async def run(self, work: JobWork, progress_ratio: Callable[[], float | None]) -> RunResult:
        """Run the work until it ends or a signal stops it. Stores and returns the result.

        If the work raises an error, the error becomes part of the result. `run` itself raises only
        if the run can't begin, or if the result can't be stored after a stop.
        """
        began_s = time.monotonic()
        run = await JobRun.begin_or_resume(
            self.database_url, self.spec, owner=self.settings.process_name
        )
        async with run:
            self.throttle.throttled_s |= run.throttled_before_s
            _log.info("job.started", job=self.spec.job_id, run=run.number, resumed=run.resumed)
            before = await run.read_totals()
            with stop_on_signals(self.stop):
                state, reason = await self._supervised(run, work, progress_ratio)
                took_s = time.monotonic() - began_s
                return await self._stored(
                    run, state, reason, progress_ratio(), before.records, took_s
                )

    async def _stored(
        self,
        run: JobRun,
        state: RunState,
        reason: str,
        share: float | None,
        records_before: int,
        took_s: float,
    ) -> RunResult:
        """Store the result and return it. In an outage, wait for the database until a stop."""
        outage = OutageLogger(_log)
        while True:
            try:
                totals = await run.read_totals()
                if state == "complete" and totals.expired:
                    state = "truncated"
                    reason = (
                        f"Kafka's retention deleted {totals.expired:,} offsets before they were "
                        "read"
                    )
                records_per_s = (totals.records - records_before) / took_s
                await run.end(state, reason, self._heartbeat(share, records_per_s))
            except RetryableError as error:
                if self.stopping.is_set():
                    raise StoreUnavailableError(
                        f"the result could not be stored ({error}), so the run stays interrupted. "
                        "Run the same command to resume from the last commit"
                    ) from error
                await wait_at_most(self.stopping, backoff_delay_s(outage.count_failure(error)))
            else:
                outage.count_success()
                return RunResult(
                    job_id=self.spec.job_id,
                    run=run.number,
                    state=state,
                    reason=reason,
                    totals=totals,
                    took_s=took_s,
                    records_per_s=records_per_s,
                    throttled_s=dict(self.throttle.throttled_s),
                )

    async def _supervised(
        self, run: JobRun, work: JobWork, progress_ratio: Callable[[], float | None]
    ) -> tuple[RunState, str]:
        """Return the state in which the run ended, and the reason unless it's complete."""
        truncated: str | None = None
        try:
            async with self._deadline, asyncio.TaskGroup() as tasks:
                tasks.create_task(self.throttle.watch_lag(self._finished), name="live traffic")
                tasks.create_task(self._write_heartbeats(run, progress_ratio), name="heartbeat")
                tasks.create_task(self._set_deadline(), name="deadline")
                truncated = await work(run, tasks)
                self._finished.set()
        except TimeoutError:
            _log.warning("job.deadline_passed", why="batches in flight are rolled back")
        except BaseExceptionGroup as errors:
            worst = pick_error_by_kind_order(errors, FencedError, PositionError, FatalError)
            if isinstance(worst, FencedError):
                raise run.taken_over_error() from errors
            if not isinstance(worst, NormalizerError):
                raise worst from errors
            return "failed", str(worst)
        if self.stopping.is_set():
            return "stopped", ""
        return ("complete", "") if truncated is None else ("truncated", truncated)

    async def _set_deadline(self) -> None:
        """Set the deadline once a stop is requested, even if the work hasn't begun."""
        await self._finished.wait()
        if self.stopping.is_set():
            now_s = asyncio.get_running_loop().time()
            self._deadline.reschedule(now_s + self.settings.stop_timeout_s)

    async def _write_heartbeats(
        self, run: JobRun, progress_ratio: Callable[[], float | None]
    ) -> None:
        """Report the progress on the screen and in the database, and log an outage."""
        outage = OutageLogger(_log)
        while not self._finished.is_set():
            await wait_at_most(self._finished, _HEARTBEAT_EVERY_S)
            with contextlib.suppress(RetryableError):
                # A batch locks the totals from its first write until it commits, so this query may
                # have to wait for it. Such a wait doesn't count as an outage, however long it
                # takes, because the database is working.
                with outage.log_if_no_answer():
                    totals = await run.read_totals()
                outage.count_success()
                self._progress.report(totals, progress_ratio(), self.throttle.throttled_by)
                await run.store_heartbeat(
                    self._heartbeat(progress_ratio(), self._progress.records_per_s)
                )

    def _heartbeat(self, share: float | None, records_per_s: float) -> RunHeartbeat:
        return RunHeartbeat(
            share=share,
            records_per_s=records_per_s,
            throttled_by_lag_s=self.throttle.throttled_s["live_lag"],
            throttled_by_rate_s=self.throttle.throttled_s["max_rate"],
        )
