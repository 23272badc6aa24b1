"""What the service did in, numbers for Prometheus out; and what each of them means.

The catalogue is the document: `normalizer metrics` prints it, docs/metrics.md is that print. Label
values are closed lists and stand at zero from the start. An execution is never a label.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final, Literal

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)

from normalizer.core.shapes import SHAPES
from normalizer.envelope import RULES
from normalizer.errors import REASONS
from normalizer.store.sqlstate import DATA_CORRUPTED

OUTCOMES: Final = ("stored", "duplicate", "merged", "quarantined", "ignored")
STAGES: Final = ("fetch", "normalize", "wait", "write")
CLOSED_BY: Final = ("rows", "bytes", "age", "stop")
SQLSTATE_CLASSES: Final = (
    *("none", "08", "25", "40", "53", "55", "57", "58", "XX"),
    *(*sorted(DATA_CORRUPTED), "other"),
)
DRIFTS: Final = ("unknown_key", "changed_type")
PARTITION_STATES: Final = ("assigned", "claimed", "fenced", "stopped")
JOB_KINDS: Final = ("backfill", "renormalize", "redrive", "redact")
JOB_STATES: Final = ("running", "interrupted")
SCOPES: Final = ("all", "range", "sample")

NO_SHAPE: Final = "none"
"""The shape of what could not be read so far as to tell, and of what holds no event."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One name of /metrics. `labels` gives each label's values; none: as the topics have them."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    means: str
    hint: str
    labels: dict[str, tuple[str, ...]] = {}
    buckets: tuple[float, ...] = ()


_PARTITION: Final[dict[str, tuple[str, ...]]] = {"topic": (), "partition": ()}

CATALOGUE: Final = (
    # What this process did since it started.
    Metric(
        name="normalizer_records_total",
        kind="counter",
        means="Records read and committed.",
        hint="At 0 with lag growing: see normalizer_heartbeat_age_seconds, then the log.",
    ),
    Metric(
        name="normalizer_holes_total",
        kind="counter",
        means="Offsets that held no record: transaction markers, compaction.",
        hint="Nothing to do; `normalizer ledger verify` proves that nothing was in them.",
    ),
    Metric(
        name="normalizer_outcomes_total",
        kind="counter",
        means="What became of each event, or of a record that has none, by the producer's shape. "
        "Events are what was stored, merged or duplicate.",
        hint="quarantined: `normalizer quarantine list`. duplicate for long: a producer sends "
        "everything twice. A shape that appears or vanishes: a producer was deployed.",
        labels={"shape": (*SHAPES, NO_SHAPE), "outcome": OUTCOMES},
    ),
    Metric(
        name="normalizer_coercions_total",
        kind="counter",
        means="Values of stored events whose meaning was changed or guessed, by rule.",
        hint="`select * from projector.coercions_by_rule` says in which shape; mend the producer.",
        labels={"rule": RULES},
    ),
    Metric(
        name="normalizer_quarantined_total",
        kind="counter",
        means="Records or events refused, by reason.",
        hint="`normalizer quarantine list --reason REASON`, then `quarantine show`; mend the "
        "producer or the rule, then `normalizer quarantine redrive`.",
        labels={"reason": REASONS},
    ),
    Metric(
        name="normalizer_drift_total",
        kind="counter",
        means="Sightings of a top-level key that nobody documented, or of a known one with a new "
        "type of value. A sample: at most 8 events of a shape are looked at in a second.",
        hint="`select * from projector.drift` names key, type, first offset and an example; "
        "nothing is lost (the value is in events.extra): teach the rules, or the producer.",
        labels={"shape": SHAPES, "kind": DRIFTS},
    ),
    Metric(
        name="normalizer_drift_found_total",
        kind="counter",
        means="Rows that this process added to projector.drift: keys or types never seen before.",
        hint="As normalizer_drift_total.",
        labels={"shape": SHAPES, "kind": DRIFTS},
    ),
    Metric(
        name="normalizer_expired_unread_total",
        kind="counter",
        means="Events ignored because the log's time lies before the horizon of retention, though "
        "nobody had read them before: lost events, or a producer's clock.",
        hint="Lag was longer than --keep-events of `projector maintain`: raise it, then rewind or "
        "backfill. No lag: a producer's clock is wrong.",
    ),
    Metric(
        name="normalizer_batches_total",
        kind="counter",
        means="Batches begun, by why they were closed: full of rows or bytes, old, or at the stop.",
        hint="Nearly all by rows and lag growing: add processes. All by age: there is room.",
        labels={"closed_by": CLOSED_BY},
    ),
    Metric(
        name="normalizer_batch_rows",
        kind="histogram",
        means="Outcomes of a batch.",
        hint="Small batches cost more a row: raise NORMALIZER_BATCH_AGE_MS.",
        buckets=(1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000, 50_000),
    ),
    Metric(
        name="normalizer_stage_seconds_total",
        kind="counter",
        means="Time of all lanes by stage. fetch waits for records too; wait: the next batch is "
        "full and the last one not written; write: the whole transaction with its tries.",
        hint="wait grows: PostgreSQL is the limit. normalize near 1 a second: the processor is; "
        "add processes.",
        labels={"stage": STAGES},
    ),
    Metric(
        name="normalizer_commit_seconds",
        kind="histogram",
        means="The COMMIT alone, of each transaction.",
        hint="Slow: the database's disk, or a synchronous standby.",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
    ),
    Metric(
        name="normalizer_retries_total",
        kind="counter",
        means="Tries to write a batch that failed and were made again, by SQLSTATE class; none: no "
        "answer at all. A table or index that is broken has its whole code: XX001, XX002.",
        hint="08, 57, none: the database restarts or is away. 40: deadlocks. 53: out of room or "
        "connections. 55: somebody holds a lock. 25: it is read-only. XX001, XX002: restore it. "
        "other: a projection or a bug; /readyz names what it is.",
        labels={"sqlstate_class": SQLSTATE_CLASSES},
    ),
    Metric(
        name="normalizer_rebalances_total",
        kind="counter",
        means="Times the group assigned partitions to this process.",
        hint="Again and again: processes that die, or KAFKA_SESSION_TIMEOUT_MS too short.",
    ),
    Metric(
        name="normalizer_rejoins_total",
        kind="counter",
        means="Times this process left a group in trouble and joined anew.",
        hint="The log's rejoining_group says why.",
    ),
    Metric(
        name="normalizer_fenced_total",
        kind="counter",
        means="Partitions lost to a younger claim of another process.",
        hint="One at a rebalance is the fence at work. Many: two groups write one database.",
    ),
    Metric(
        name="normalizer_gaps_total",
        kind="counter",
        means="Stretches that Kafka's retention took before they were read: lost records.",
        hint="`select * from projector.gaps where reason = 'expired'`; raise retention.ms; bring "
        "them from an archive with `normalizer backfill`.",
    ),
    # How it stands now, as this process alone knows.
    Metric(
        name="normalizer_heartbeat_age_seconds",
        kind="gauge",
        means="Since the event loop last moved. It beats twice a second whatever it waits for.",
        hint="Over 30: /livez fails and the process should be restarted; keep its log.",
    ),
    Metric(
        name="normalizer_open_batch_seconds",
        kind="gauge",
        means="Age of the oldest batch that a writer has in hand: from when it was taken to its "
        "commit, waits for locks and tries in vain included; 0 where none is.",
        hint="From 5 on, /readyz and the log's batch_blocked name the offsets, what the database "
        "said last, and who holds the lock it waits for.",
    ),
    Metric(
        name="normalizer_partitions",
        kind="gauge",
        means="Partitions of this process: assigned by the group; of those claimed (in "
        "PostgreSQL and read), fenced off, or stopped.",
        hint="stopped: /readyz and the log's partition_stopped say why; `normalizer run "
        "--accept-reset` if the topic was recreated. assigned, not claimed: the database is away.",
        labels={"state": PARTITION_STATES},
    ),
    Metric(
        name="normalizer_ready",
        kind="gauge",
        means="Whether /readyz says yes.",
        hint="`curl .../readyz` lists the reasons.",
    ),
    Metric(
        name="normalizer_build_info",
        kind="gauge",
        means="1; the labels say which version runs, and which version of the rules.",
        hint="More than one for long: a roll-out is stuck.",
        labels={"version": (), "rules": ()},
    ),
    # How it stands now, as broker and database say at the scrape, whichever process works.
    Metric(
        name="normalizer_broker_up",
        kind="gauge",
        means="Whether the brokers answered at this scrape.",
        hint="Kafka. Nothing is lost meanwhile; what is said of the log's end is the last known.",
    ),
    Metric(
        name="normalizer_database_up",
        kind="gauge",
        means="Whether PostgreSQL answered at this scrape.",
        hint="PostgreSQL. Nothing is lost meanwhile; positions shown are the last known.",
    ),
    Metric(
        name="normalizer_database_writable",
        kind="gauge",
        means="Whether it answered and takes writes.",
        hint="A standby, or default_transaction_read_only: DATABASE_URL must lead to the primary.",
    ),
    Metric(
        name="normalizer_next_offset",
        kind="gauge",
        means="The stored position of each partition of the topics, whoever reads it.",
        hint="It moves, or there is nothing to read.",
        labels=_PARTITION,
    ),
    Metric(
        name="normalizer_lag_records",
        kind="gauge",
        means="Offsets between the stored position and the log's end. Every process says it of "
        "every partition: take the max by topic and partition. It grows when all are dead but one.",
        hint="All partitions: more processes, or a faster database. One: that partition is stuck.",
        labels=_PARTITION,
    ),
    Metric(
        name="normalizer_lag_seconds",
        kind="gauge",
        means="How long the oldest unread record has been in the log; 0 where none is unread.",
        hint="This is how old the dashboards are.",
        labels=_PARTITION,
    ),
    Metric(
        name="normalizer_time_to_expiry_seconds",
        kind="gauge",
        means="Until retention.ms takes the oldest unread record; what a record has in all where "
        "none is unread, +Inf where nothing expires. retention.bytes may be faster.",
        hint="Low: raise retention.ms now (kafka-configs.sh --alter), then mend what lags.",
        labels=_PARTITION,
    ),
    Metric(
        name="normalizer_work_remaining_records",
        kind="gauge",
        means="Sum of normalizer_lag_records: what an autoscaler should look at.",
        hint="Divide by what one process does in the time you allow.",
    ),
    Metric(
        name="normalizer_unverified_seconds",
        kind="gauge",
        means="Since all projections were last compared with the events, by scope: all of them, "
        "a range of hours, or a sample (as maintain does); +Inf: not yet.",
        hint="Run `projector verify`, once a day for instance.",
        labels={"scope": SCOPES},
    ),
    Metric(
        name="normalizer_divergent_rows",
        kind="gauge",
        means="Executions and hours at which projections are known to differ from the events: "
        "verify found them, or events went in without their projections.",
        hint="`select * from projector.agreement`, then `projector repair`; report it.",
    ),
    Metric(
        name="normalizer_divergent_seconds",
        kind="gauge",
        means="How long the oldest of them has stood; 0: none does.",
        hint="As above.",
    ),
    Metric(
        name="normalizer_jobs",
        kind="gauge",
        means="Jobs over history that run, or were interrupted and wait for their command.",
        hint="interrupted: `normalizer jobs`; type the command again, it goes on where it was.",
        labels={"kind": JOB_KINDS, "state": JOB_STATES},
    ),
    Metric(
        name="normalizer_job_progress_ratio",
        kind="gauge",
        means="How much of its source the slowest running job has read; 1: none runs.",
        hint="`normalizer jobs` says how long it will take and what holds it.",
        labels={"kind": JOB_KINDS},
    ),
    Metric(
        name="normalizer_oldest_snapshot_seconds",
        kind="gauge",
        means="Age of the oldest snapshot in the database that keeps dead rows from being cleaned. "
        "Without pg_read_all_stats only our own are seen.",
        hint="Over 300: updates get slower by the minute; find it in pg_stat_activity "
        "(order by backend_xmin) and end it. Ours live 10 seconds at most.",
    ),
    Metric(
        name="normalizer_missing_migrations",
        kind="gauge",
        means="Migrations that this version needs and the database has not.",
        hint="`normalizer migrate`.",
    ),
)

disable_created_metrics()  # type: ignore[no-untyped-call]

_BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}


class ServiceMetrics:
    """What is counted while the service works: per batch, and safe to read from any thread."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.outcomes = self._counter("normalizer_outcomes_total")
        self.coercions = self._counter("normalizer_coercions_total")
        self.quarantined = self._counter("normalizer_quarantined_total")
        self.expired_unread = self._counter("normalizer_expired_unread_total")
        self.drift = self._counter("normalizer_drift_total")
        self.drift_found = self._counter("normalizer_drift_found_total")
        self.batches = self._counter("normalizer_batches_total")
        self.stage_seconds = self._counter("normalizer_stage_seconds_total")
        self.retries = self._counter("normalizer_retries_total")
        self.batch_rows = self._histogram("normalizer_batch_rows")
        self.commit_seconds = self._histogram("normalizer_commit_seconds")
        self._stages = {stage: self.stage_seconds.labels(stage=stage) for stage in STAGES}

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count time of a lane."""
        self._stages[stage].inc(seconds)

    def count_retry(self, sqlstate: str | None) -> None:
        """Count a try that failed."""
        code = sqlstate or "none"
        found = code if code in SQLSTATE_CLASSES else code[:2]
        self.retries.labels(sqlstate_class=found if found in SQLSTATE_CLASSES else "other").inc()

    def _counter(self, name: str) -> Counter:
        metric = _BY_NAME[name]
        made = Counter(name, metric.means, [*metric.labels], registry=self.registry)
        for values in product(*metric.labels.values()) if metric.labels else ():
            made.labels(*values)
        return made

    def _histogram(self, name: str) -> Histogram:
        metric = _BY_NAME[name]
        return Histogram(name, metric.means, buckets=metric.buckets, registry=self.registry)


def family(name: str, values: Mapping[Sequence[str], float]) -> Family:
    """One metric with a value for each of its label values, in the order of its labels."""
    metric = _BY_NAME[name]
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = kind(name, metric.means, labels=[*metric.labels])
    for labels, value in values.items():
        made.add_metric([*labels], value)
    return made


def documented() -> Iterator[str]:
    """The catalogue as lines of Markdown: a table row each."""
    yield "| name | type | means | look at, do |"
    yield "|---|---|---|---|"
    for metric in CATALOGUE:
        labels = "".join(
            f"<br>{label}: {', '.join(values) or 'as they are'}"
            for label, values in metric.labels.items()
        )
        yield f"| `{metric.name}` | {metric.kind}{labels} | {metric.means} | {metric.hint} |"
