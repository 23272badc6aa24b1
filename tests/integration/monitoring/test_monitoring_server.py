"""/metrics, /livez and /readyz of a running service: red when it should be, and green again."""

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from normalizer.config.settings import Settings
from normalizer.consumer.service import Service
from normalizer.core.previous_owner import SLICE_CODE_BLAMED
from normalizer.errors import REJECTION_REASONS
from normalizer.monitoring import monitoring_server as monitor_module
from normalizer.monitoring.lag import SERVER_STATUS_SQL
from normalizer.monitoring.monitoring_server import MonitoringServer
from normalizer.observability.metric_catalog import METRICS
from normalizer.store.store import Store
from tests.integration.jobs.test_redrive import as_user
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.probe_client import Values, http_get, metric_value, scrape_metrics
from tests.support.service_runs import running, until, watching
from tests.support.stack import Database
from tests.support.table_rows import connected

_LAST_POLLED_AT = """
    select state_change
    from   pg_stat_activity
    where  datname = current_database() and application_name = 'normalizer monitor'
"""


@contextlib.asynccontextmanager
async def monitored(settings: Settings, **options: Any) -> AsyncIterator[tuple[Service, str]]:
    async with running(settings, **options) as service:
        with MonitoringServer(settings, service) as monitor:
            yield service, monitor.url


async def scraped_lags(url: str) -> dict[str, float]:
    return {
        f"{name} {dict(labels)}": number
        for (name, labels), number in (await scrape_metrics(url)).items()
        if "lag" in name or "_up" in name or "next" in name
    }


async def ready(url: str) -> bool:
    status, _ = await http_get(f"{url}/readyz")
    return status == 200


async def test_an_idle_service_shows_every_metric_at_zero_and_whether_its_database_will_do(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that somebody locks does not mean that the database is unreachable."""
    async with (
        monitored(feed.settings()) as (_, url),
        watching(feed.database.admin_url) as admin,
    ):
        await until(lambda: ready(url))
        at_first = await scrape_metrics(url)

        async with admin.connection.transaction():
            await admin.connection.execute(
                "lock table migrations.applied, normalizer.jobs in access exclusive mode"
            )
            with monkeypatch.context() as patched:
                patched.setattr(monitor_module, "POLL_REUSE_S", 0.0)
                status, body = await http_get(f"{url}/readyz")
                while_locked = await scrape_metrics(url)

        async def reported(reason: str) -> bool:
            _, body = await http_get(f"{url}/readyz")
            return bool(body["reasons"] == [reason])

        await admin.connection.execute("delete from migrations.applied where version = '0009'")
        await until(lambda: reported("migrations missing: 0009: run `normalizer migrate`"))
        await admin.connection.execute("insert into migrations.applied (version) values ('0009')")
        await until(lambda: ready(url))

        await admin.connection.execute(
            f"alter database {feed.database.name} set default_transaction_read_only = on"
        )
        await admin.connection.execute(
            """
            select pg_terminate_backend(pid)
            from   pg_stat_activity
            where  datname = current_database() and application_name = 'normalizer monitor'
            """
        )
        await until(lambda: reported("database: read-only"))
        alive, _ = await http_get(f"{url}/livez")

    assert_every_metric_is_there(at_first)
    assert metric_value(at_first, "normalizer_lag_records", partition="0") == 0
    assert (status, body["reasons"]) == (200, [])
    assert metric_value(while_locked, "normalizer_database_up") == 1
    assert alive == 200


def assert_every_metric_is_there(values: Values) -> None:
    names = {name for name, _ in values}
    for metric in METRICS:
        shown = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
        assert shown in names, metric.name
        found = [dict(labels) for name, labels in values if name == shown]
        closed = {label: given for label, given in metric.labels.items() if given}
        for label, given in closed.items():
            assert {each[label] for each in found} == set(given), metric.name
    assert not any("execution" in label for _, labels in values for label, _ in labels)


async def test_written_rows_are_counted_by_shape_reason_and_rule(feed: Feed) -> None:
    """The rights of the writer are enough."""
    mutated = raw_event(50) | {
        "brand_new": {"key": "value"},
        "worker_id": 17,
        "meta": {"attempts": -1},
    }
    for sent in (raw_event(1), raw_event(1), mutated):
        await feed.producer.send_and_wait(feed.name, msgspec.json.encode(sent), partition=0)
    await feed.producer.send_and_wait(feed.name, b"{broken", partition=0)
    await feed.producer.send_and_wait(feed.name, None, key=b"7", partition=0)

    async with (
        as_user(feed.database, "normalizer_writer") as login,
        monitored(feed.settings(database_url=login.url)) as (_, url),
    ):
        await feed.until_read({0: 5})
        await until(lambda: ready(url))

        async def found() -> bool:
            return metric_value(await scrape_metrics(url), "normalizer_drift_found_total") == 2

        await until(found, lambda: scrape_metrics(url))
        values = await scrape_metrics(url)
        drift = await feed.connection.fetch(
            "select field, type, kind, source_offset, example from projector.drift order by field"
        )

    assert metric_value(values, "normalizer_records_total") == 5
    outcomes = "normalizer_outcomes_total"
    assert metric_value(values, outcomes, outcome="stored") == 2
    assert (
        metric_value(values, outcomes, outcome="duplicate")
        + metric_value(values, outcomes, outcome="merged")
        == 1
    )
    assert metric_value(values, outcomes, outcome="ignored", shape="none") == 1
    assert metric_value(values, outcomes, outcome="quarantined", shape="none") == 1
    assert metric_value(values, "normalizer_quarantined_total", reason="invalid_json") == 1
    assert metric_value(values, "normalizer_quarantined_total") == 1
    assert metric_value(values, "normalizer_coercions_total", rule="attempts_invalid") == 1
    assert metric_value(values, "normalizer_drift_found_total", kind="unknown_key") == 1
    assert metric_value(values, "normalizer_drift_found_total", kind="changed_type") == 1
    assert [tuple(row) for row in drift] == [
        ("brand_new", "object", "unknown_key", 2, '{"key":"value"}'),
        ("worker_id", "number", "changed_type", 2, "17"),
    ]
    assert metric_value(values, "normalizer_next_offset", partition="0") == 5
    assert metric_value(values, "normalizer_commit_seconds_count") >= 1
    assert metric_value(values, "normalizer_missing_migrations") == 0
    assert metric_value(values, "normalizer_database_writable") == 1
    assert metric_value(values, "normalizer_unverified_seconds") == math.inf
    assert len(REJECTION_REASONS) == sum(
        name == "normalizer_quarantined_total" for name, _ in values
    )


async def test_a_stopped_partition_is_a_reason_and_others_go_on(feed: Feed) -> None:
    async with monitored(feed.settings()) as (service, url):
        await until(lambda: ready(url))
        await feed.connection.execute(
            "update normalizer.source_positions set cluster_id = 'another' where partition = 1"
        )
        service.ownership.release_for_new_claim(
            feed.partition(1),
            service.ownership.current_claims[feed.partition(1)].epoch,
        )
        await until(lambda: feed.partition(1) in service.ownership.stop_reasons_by_partition)
        await feed.send(range(3), partition=1)
        status, body = await http_get(f"{url}/readyz")
        alive, _ = await http_get(f"{url}/livez")

        async def lags() -> bool:
            return (
                metric_value(await scrape_metrics(url), "normalizer_lag_records", partition="1")
                == 3
            )

        await until(lags)
        values = await scrape_metrics(url)

    assert (status, alive) == (503, 200)
    assert [reason.partition(" is stopped: ")[0] for reason in body["reasons"]] == [
        f"partition {feed.name}[1]"
    ]
    assert body["partitions"]["stopped"] == 1
    assert metric_value(values, "normalizer_partitions", state="stopped") == 1
    assert metric_value(values, "normalizer_ready") == 0


async def test_record_that_may_kill_leaves_the_process_ready(feed: Feed) -> None:
    """Else no rollout would end that replaces the version which cannot read them."""
    settings = feed.settings()
    async with running(settings) as service:
        with MonitoringServer(settings, service) as monitor:
            await until(lambda: ready(monitor.url))
            partition = feed.partition(1)
            claim = service.ownership.current_claims[partition]
            claim = msgspec.structs.replace(claim, slice_records=SLICE_CODE_BLAMED, next_offset=5)
            service.ownership.suspects.add_if_suspect(partition, claim, log_end=9)

            status, body = await http_get(f"{monitor.url}/readyz")
            values = await scrape_metrics(monitor.url)

    assert (status, body["ready"], body["reasons"]) == (200, True, [])
    (degraded,) = body["degraded"]
    words = "a process was killed while it processed offset 5 and no other record"
    assert degraded == f"partition {partition}: {words}"
    assert metric_value(values, "normalizer_ready") == 1
    assert metric_value(values, "normalizer_degraded") == 1


async def test_a_partition_that_another_process_keeps_is_a_reason(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may read it: who claimed it may have ended."""
    monkeypatch.setattr(monitor_module, "MAX_FENCED_S", 1.0)
    partition = feed.partition(1)
    async with monitored(feed.settings()) as (service, url):
        await until(lambda: ready(url))
        async with Store(feed.database.url, owner="younger") as store:
            cluster_id = service.ownership.last_claims[partition].cluster_id
            await store.claim_partition(*partition, cluster_id=cluster_id, log_start=0)

        async def is_a_reason() -> bool:
            _, body = await http_get(f"{url}/readyz")
            return [one.partition(" process ")[0] for one in body["reasons"]] == [
                f"partition {partition} was claimed by another"
            ]

        await until(is_a_reason)


def hanging_fetch(
    hang: asyncio.Event, hanging: set[object]
) -> Callable[..., Awaitable[list[object]]]:
    """A fetch that waits for `hang`, and notes the partitions that it waits for."""

    async def fetch(partitions: Iterable[object], **_: object) -> list[object]:
        hanging.update(partitions)
        await hang.wait()
        return []

    return fetch


async def test_the_lag_grows_while_the_fetch_loop_hangs(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with monitored(feed.settings()) as (service, url):
        await until(lambda: ready(url))
        hang, hanging = asyncio.Event(), set[object]()
        monkeypatch.setattr(service._membership._reader, "fetch", hanging_fetch(hang, hanging))

        async def all_hang() -> bool:
            return len(hanging) == feed.topic.partitions

        # A fetch that was in flight could still read what is sent.
        await until(all_hang)
        ages: list[float] = []

        async def is_behind_by(records: int) -> bool:
            values = await scrape_metrics(url)
            if metric_value(values, "normalizer_lag_records", partition="2") != records:
                return False
            age = metric_value(values, "normalizer_lag_seconds", partition="2")
            if not age:
                # New ends were read after this scrape had looked for the oldest unread record.
                return False
            ages.append(age)
            return True

        for behind in (10, 20, 30):
            await feed.send(range(10), partition=2)
            await until(partial(is_behind_by, behind), lambda: scraped_lags(url))
        hang.set()

    assert 0 < ages[0] < ages[1] < ages[2]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of records in each answer to a fetch of the monitor."""
    fetched: list[int] = []
    send_request = AIOKafkaClient.send

    async def send_and_note(client: Any, node_id: Any, request: Any, **options: Any) -> Any:
        answer = await send_request(client, node_id, request, **options)
        if isinstance(request, FetchRequest) and threading.current_thread().name == "monitor":
            ((_, ((*_, batches),)),) = answer.topics
            fetched.append(len(batches))
        return answer

    monkeypatch.setattr(AIOKafkaClient, "send", send_and_note)
    return fetched


async def test_only_a_scrape_reads_unread_records_and_of_each_partition_one_batch(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, fetched: list[int]
) -> None:
    settings = feed.settings()
    async with monitored(settings) as (service, url):
        await until(lambda: ready(url))
        hang, hanging = asyncio.Event(), set[object]()

        async def reported(end: int) -> bool:
            lowest = await feed.connection.fetchval(
                "select min(log_end) from normalizer.source_heartbeats"
            )
            return bool(lowest == end)

        monkeypatch.setattr(service._membership._reader, "fetch", hanging_fetch(hang, hanging))
        await until(lambda: len(hanging) == feed.topic.partitions)
        last_polled_at = await feed.connection.fetchval(_LAST_POLLED_AT)
        for number in range(60):
            await feed.send(range(number, number + 1))
        await until(partial(reported, 20))
        before_scrape = list(fetched)
        polled_meanwhile = await feed.connection.fetchval(_LAST_POLLED_AT) != last_polled_at
        values = await scrape_metrics(url)
        await scrape_metrics(url)
        hang.set()

    assert last_polled_at
    assert (before_scrape, polled_meanwhile) == ([], False)
    assert len(fetched) == feed.topic.partitions
    assert all(0 < size < 2_000 for size in fetched)
    for partition in range(feed.topic.partitions):
        assert metric_value(values, "normalizer_lag_seconds", partition=str(partition)) > 0


async def test_a_silent_broker_holds_up_no_heartbeat(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten seconds without one the views would say that the normalizer is dead."""
    silent = threading.Event()

    async def silence() -> None:
        silent.set()
        await asyncio.sleep(300)

    settings = feed.settings()
    async with running(settings) as service:

        async def sent_at() -> object:
            return await feed.connection.fetchval(
                "select max(heartbeat_at) from normalizer.source_heartbeats"
            )

        async def is_another_sent() -> bool:
            return await sent_at() != last_sent_at

        with MonitoringServer(settings, service) as monitor:
            last_sent_at = None
            await until(is_another_sent)
            monkeypatch.setattr(monitor.lag_monitor, "poll_broker", silence)
            await until(silent.is_set)
            last_sent_at = await sent_at()
            await until(is_another_sent)


async def test_a_mistake_of_ours_is_logged_and_heartbeats_and_probes_go_on(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = feed.settings()
    async with running(settings) as service:
        monitor = MonitoringServer(settings, service)
        poll_broker = monitor.lag_monitor.poll_broker

        async def fail_once(*_: object) -> None:
            monkeypatch.setattr(monitor.lag_monitor, "poll_broker", poll_broker)
            raise KeyError("a secret of a record")

        async def sends_heartbeats() -> bool:
            found: bool = await feed.connection.fetchval(
                "select exists (select from normalizer.source_heartbeats)"
            )
            return found

        monkeypatch.setattr(monitor.lag_monitor, "poll_broker", fail_once)
        with monitor:
            await until(sends_heartbeats)
            monkeypatch.setattr(monitor.lag_monitor, "poll", fail_once)
            with pytest.raises(OSError, match="closed connection without response"):
                await http_get(f"{monitor.url}/readyz")
            monkeypatch.undo()
            await until(lambda: ready(monitor.url))

    lines = [
        line for line in capsys.readouterr().out.splitlines() if "unexpected error, our bug" in line
    ]
    assert [line.split()[4] for line in lines] == ["monitor.report_failed", "probe.failed"]
    assert all(line.endswith("why='unexpected error, our bug: KeyError'") for line in lines)


async def test_how_long_another_role_holds_a_snapshot_is_measured_or_left_out(feed: Feed) -> None:
    """Without the right to see it 0 would say that nobody holds one."""
    async with (
        as_user(feed.database, "normalizer_writer") as login,
        connected(feed.database) as admin,
        monitored(feed.settings(database_url=login.url)) as (_, own),
    ):

        async def ages() -> list[float]:
            values = await scrape_metrics(own)
            return [age for (name, _), age in values.items() if "oldest_snapshot" in name]

        async def is_measured() -> bool:
            return max(await ages(), default=0.0) > 1.0

        await until(lambda: ready(own))
        hidden = await ages()
        await admin.execute(f"grant pg_read_all_stats to {urlsplit(login.url).username}")
        async with admin.transaction(isolation="repeatable_read"):
            await admin.execute("select")
            await until(is_measured, ages)

    assert hidden == []


async def test_a_vacuum_keeps_no_other_from_removing_dead_rows_and_is_not_measured(
    database: Database,
) -> None:
    """As `projector maintain` runs it, for as long as a large partition takes."""
    async with (
        watching(database.admin_url) as admin,
        watching(database.admin_url) as other,
        asyncio.TaskGroup() as group,
    ):
        await other.connection.execute("create table large as select generate_series(1, 99999)")
        await other.connection.execute("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1")
        await admin.connection.execute("create table small as select generate_series(1, 999)")
        slow = group.create_task(other.connection.execute("vacuum (freeze) large"))

        async def vacuums() -> bool:
            has_xmin: bool = await admin.connection.fetchval(
                "select count(backend_xmin) > 0 from pg_stat_activity "
                "join pg_stat_progress_vacuum using (pid) where relid = 'large'::regclass"
            )
            return has_xmin

        await until(vacuums)
        await admin.connection.execute("delete from small")
        await admin.connection.execute("vacuum small")
        left = await admin.connection.fetchval("select pg_relation_size('small')")
        measured = await admin.connection.fetchrow(SERVER_STATUS_SQL)
        assert await vacuums()
        slow.cancel()

    assert left == 0
    assert measured is not None
    assert measured["snapshot_s"] == 0
