"""Serves /metrics, /livez, and /readyz for a running service, from its own threads.

It responds even while the service's event loop hangs, and then it reports the hang.

/livez fails only if the event loop hangs, because a restart helps then, but not in an outage.
/readyz fails as long as the service can't process records: a topic is missing, partitions aren't
assigned and claimed, the brokers or the database don't respond, the database is read-only or lacks
a migration, or a partition is stopped.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError as PollCancelled
from itertools import chain
from typing import Any, Final, Self

from prometheus_client.registry import Collector

from normalizer.config.settings import Settings
from normalizer.consumer.service import Service
from normalizer.core.drift import DriftFinding
from normalizer.errors import StoreUnavailableError
from normalizer.monitoring.gauges import GaugeCollector
from normalizer.monitoring.lag import LagMonitor
from normalizer.monitoring.probes import HttpResponse, ProbeServer, probe_response
from normalizer.monitoring.source_heartbeat import HeartbeatWriter
from normalizer.runtime.backoff import wait_at_most
from normalizer.runtime.logging_setup import get_logger, log_unexpected_error
from normalizer.runtime.version import VERSION
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.sqlstate import DATA_CORRUPTED_CODES, STATEMENT_ERRORS
from normalizer.store.write_retry import InFlightBatch

MAX_HEARTBEAT_AGE_S: Final = 30.0
_REPORT_INTERVAL_S: Final = 3.0
"""How often to read the ends of the logs. Each time a heartbeat is sent."""
_OUTAGE_HEARTBEAT_INTERVAL_S: Final = 5.0
"""While the broker is silent, send a heartbeat this often. After 10 s without one, the views would
call the process dead instead of the broker unreachable."""
MAX_FENCED_S: Final = 30.0
"""A rebalance that takes a partition away has ended by then."""
_HANGING_AFTER_S: Final = 5.0
POLL_REUSE_S: Final = 1.0
"""Probes and scrapes within this time share one poll."""
_PROBE_POLL_TIMEOUT_S: Final = 5.5
"""A probe waits this long for a poll, and then reports what it knows. That's shorter than the
timeouts of scrapers."""

_log: Final = get_logger()


class MonitoringServer:
    """Serves the probes at `url` inside `with MonitoringServer(settings, service) as monitor`."""

    def __init__(self, settings: Settings, service: Service) -> None:
        """Raises ConfigurationError if it can't listen at the address."""
        self._service = service
        self.lag_monitor = LagMonitor(settings)
        self._heartbeat = HeartbeatWriter(settings.database_url or "")
        self._polled_at_s = self._read_unread_at_s = -POLL_REUSE_S
        self._polling = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._ends_polled = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._probes = ProbeServer(
            settings.http_host,
            settings.http_port,
            {"/metrics": self.metrics, "/livez": self.livez, "/readyz": self.readyz},
        )
        self.url = self._probes.url
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        gauges = GaugeCollector(
            self._service,
            self.lag_monitor,
            reasons=self.reasons_not_ready,
            degraded=self.describe_degraded_partitions,
        )
        self._service.observer.metrics.registry.register(gauges)
        self._thread.start()
        self._probes.__enter__()
        _log.info("consumer.listening", url=self.url)
        return self

    def __exit__(self, *why: object) -> None:
        self._probes.__exit__(*why)
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=2.0)

    def livez(self) -> HttpResponse:
        """Fail if the event loop hangs, but not in an outage, which a restart can't end."""
        age_s = self._service.heartbeat.age_s()
        return probe_response({"heartbeat_age_s": round(age_s, 3)}, ok=age_s < MAX_HEARTBEAT_AGE_S)

    def readyz(self) -> HttpResponse:
        """Respond with 503 while the service isn't ready, and list all reasons.

        `degraded` lists problems that affect only single partitions. They don't fail the probe,
        because a new process would have the same problem, and a rollout would stall.
        """
        self._wait_for(self._poll())
        reasons = list(self.reasons_not_ready())
        service = self._service
        return probe_response(
            {
                "ready": not reasons,
                "reasons": reasons,
                "degraded": list(self.describe_degraded_partitions()),
                "partitions": service.count_partitions(),
                "gaps": {
                    str(one): gap for one, gap in service.ownership.last_expired_ranges.items()
                },
                "lag_records": self.lag_monitor.lag_records,
                "version": VERSION,
            },
            ok=not reasons,
        )

    def metrics(self) -> Collector:
        """Return the collector of every metric in the catalog."""
        self._wait_for(self._poll_for_metrics())
        return self._service.observer.metrics.registry

    def reasons_not_ready(self) -> Iterator[str]:
        """Yield the reasons why the service isn't ready."""
        service, lag_monitor = self._service, self.lag_monitor
        if service.heartbeat.age_s() >= MAX_HEARTBEAT_AGE_S:
            yield f"loop: no heartbeat for {service.heartbeat.age_s():.0f} s"
        if not lag_monitor.broker_up:
            yield "broker: no answer"
        for topic in lag_monitor.missing_topics:
            yield f"topic {topic} does not exist: `normalizer check` says how to create it"
        yield from self._database_reasons()
        yield from self._waiting_batches()
        if service.is_rebalancing():
            yield "group: partitions are not assigned yet"
        ownership = service.ownership
        named = {
            *ownership.unreachable_reasons_by_partition,
            *chain(*ownership.other_group_partitions_by_reason.values()),
        }
        waiting = [one for one in ownership.unclaimed_partitions() if one not in named]
        if waiting:
            yield f"partitions assigned but not claimed: {', '.join(map(str, waiting))}"
        for partition, age_s in service.ownership.fenced_s_by_partition().items():
            if age_s >= MAX_FENCED_S:
                yield f"partition {partition} was claimed by another process {age_s:.0f} s ago"
        yield from service.chunk_normalizer.describe_records_killing_helper()
        for partition, why in service.ownership.stop_reasons_by_partition.items():
            yield f"partition {partition} is stopped: {why.removeprefix(f'{partition}: ')}"

    def describe_degraded_partitions(self) -> Iterator[str]:
        """Yield a line for each partition that this process can't read as it should."""
        ownership = self._service.ownership
        unreachable = ownership.unreachable_reasons_by_partition
        for partition, why in unreachable.items():
            yield f"partition {partition} is unreachable: {why.removeprefix(f'{partition}: ')}"
        for why, partitions in ownership.other_group_partitions_by_reason.items():
            yield f"partitions {', '.join(map(str, partitions))} are left to {why}"
        for partition in (
            self.lag_monitor.unmeasured_partitions if self.lag_monitor.broker_up else ()
        ):
            if partition not in unreachable:
                yield f"lag of partition {partition} is unknown: no broker reports where it ends"
        for partition, suspect in sorted({**ownership.suspects}.items()):
            if suspect.is_blamed:
                yield (
                    f"partition {partition}: a process was killed while it processed offset "
                    f"{suspect.claim.next_offset} and no other record"
                )

    def _database_reasons(self) -> Iterator[str]:
        lag_monitor = self.lag_monitor
        if not lag_monitor.has_database:
            return
        if not lag_monitor.database_up:
            yield "database: no answer"
        elif not lag_monitor.writable:
            yield "database: read-only"
        elif lag_monitor.missing_migrations:
            missing = ", ".join(lag_monitor.missing_migrations)
            yield f"migrations missing: {missing}: run `normalizer migrate`"

    def _waiting_batches(self) -> Iterator[str]:
        for in_flight in self._service.in_flight_batches():
            if in_flight.is_blocked():
                yield _why_waiting(in_flight)

    def _wait_for(self, polling: Coroutine[Any, Any, None]) -> None:
        """Wait for a poll, but continue without it if it takes too long."""
        future = asyncio.run_coroutine_threadsafe(polling, self._loop)
        with contextlib.suppress(TimeoutError, PollCancelled):
            future.result(_PROBE_POLL_TIMEOUT_S)

    async def _poll(self) -> None:
        """Poll Kafka and PostgreSQL, unless that happened a moment ago."""
        async with self._polling:
            if time.monotonic() - self._polled_at_s < POLL_REUSE_S:
                return
            await self.lag_monitor.poll()
            self._polled_at_s = time.monotonic()

    async def _poll_for_metrics(self) -> None:
        """Poll, and also read unread records, which may take seconds.

        It skips the latter if a later scrape has done it already.
        """
        scraped_at_s = time.monotonic()
        await self._poll()
        async with self._polling:
            if self._read_unread_at_s < scraped_at_s:
                self._read_unread_at_s = time.monotonic()
                await self.lag_monitor.poll_oldest_unread()

    async def _poll_ends(self) -> None:
        """Read the ends of the logs for the next heartbeat."""
        async with self._polling:
            await self.lag_monitor.poll_broker()
        self._ends_polled.set()

    async def _send_heartbeat(self) -> None:
        """Send a heartbeat to the database, unless the event loop hangs."""
        self._ends_polled.clear()
        if self.lag_monitor.has_database and self._service.heartbeat.age_s() < _HANGING_AFTER_S:
            ownership = self._service.ownership
            await self._heartbeat.send(
                ownership.last_claims,
                self.lag_monitor.observed_log_ends,
                ownership.stop_reasons_by_partition.keys(),
            )

    async def _store_drift(self) -> None:
        findings = self._service.observer.drift_detector.take_findings()
        if not findings:
            return
        # Without a database, which is only the case in the relay, every finding counts as new.
        are_new = [True] * len(findings)
        try:
            if self.lag_monitor.has_database:
                are_new = await insert_drift_findings(self.lag_monitor.connection, findings)
        except STATEMENT_ERRORS:
            self._service.observer.drift_detector.put_back(findings)
            return
        for finding in [one for one, is_new in zip(findings, are_new, strict=True) if is_new]:
            labels = {"shape": finding.shape, "kind": finding.kind}
            self._service.observer.metrics.drift_found.labels(**labels).inc()
            _log.warning(
                "drift.found",
                **labels,
                field=finding.field,
                type=finding.type,
                record=f"{finding.topic}[{finding.partition}]@{finding.offset}",
            )

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._keep_reporting())

    async def _keep_reporting(self) -> None:
        """Report until the monitor stops.

        The reports run independently, because a broker may hang.
        """
        async with asyncio.TaskGroup() as tasks:
            reports = [
                tasks.create_task(self._repeat(work, wake, wait_s), name=name)
                for name, work, wake, wait_s in (
                    ("poll the ends", self._poll_ends, self._stopping, _REPORT_INTERVAL_S),
                    (
                        "send a heartbeat",
                        self._send_heartbeat,
                        self._ends_polled,
                        _OUTAGE_HEARTBEAT_INTERVAL_S,
                    ),
                    ("store drift", self._store_drift, self._stopping, _REPORT_INTERVAL_S),
                )
            ]
            await self._stopping.wait()
            for report in reports:
                report.cancel()
        await self.lag_monitor.close()
        self._heartbeat.close()

    async def _repeat(
        self, work: Callable[[], Awaitable[None]], wake: asyncio.Event, wait_s: float
    ) -> None:
        """Repeat the work until the monitor stops: each time `wake` is set, or after `wait_s`."""
        while not self._stopping.is_set():
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - if this task ended, the views would call the process dead
                log_unexpected_error("monitor.report_failed", error)
            await wait_at_most(wake, wait_s)


def _why_waiting(in_flight: InFlightBatch) -> str:
    error, why = in_flight.error, in_flight.describe_wait_and_error()
    if isinstance(error, StoreUnavailableError) and error.sqlstate in DATA_CORRUPTED_CODES:
        why = f"{why}: its data is corrupted: restore it, or reindex"
    return f"batch open for {in_flight.age_s():.0f} s: {in_flight.describe_piece()}: {why}"


_TIMEOUT_S: Final = 3.0

# Stores no value of an execution that was erased.
_INSERT_FINDING: Final = """
    insert into normalizer.drift_findings (
        shape, field, type, kind, source_topic, source_incarnation, source_partition,
        source_offset, example
    )
    select $1::text, $2::text, $3::text, $4::text, $5::text, $6::integer, $7::integer, $8::bigint,
           $9::text
    where  not exists (
               select from normalizer.forgotten_executions
               where  execution_id = any($10::bigint[])
           )
    on conflict do nothing
    returning true
"""


async def insert_drift_findings(
    connection: ReconnectingConnection, findings: Sequence[DriftFinding]
) -> list[bool]:
    """Insert the findings. Returns for each whether it's new. Raises asyncpg's errors."""
    async with asyncio.timeout(_TIMEOUT_S), connection.acquire() as database:
        return [
            bool(
                await database.fetchval(
                    _INSERT_FINDING,
                    *(one.shape, one.field, one.type, one.kind, one.topic, one.incarnation),
                    *(one.partition, one.offset, one.example, one.execution_ids),
                )
            )
            for one in findings
        ]
