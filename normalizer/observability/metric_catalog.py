"""The catalog of metrics: every metric with its meaning and what to do about it.

`normalizer metrics` and the docs site print this catalog, and tests compare it with the code. To
limit the number of time series, a label's values come from a fixed list. That's why an execution id
is never a label.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from normalizer.core.shapes import SHAPES
from normalizer.envelope import COERCION_RULES
from normalizer.errors import REJECTION_REASONS
from normalizer.store.sqlstate import DATA_CORRUPTED_CODES

RECORD_OUTCOMES: Final = ("stored", "duplicate", "merged", "quarantined", "ignored")
STAGES: Final = ("fetch", "normalize", "wait", "write")
_BATCH_CLOSE_REASONS: Final = ("rows", "bytes", "age", "suspect", "fetch_failed", "stop")
SQLSTATE_CLASSES: Final = (
    *("none", "08", "25", "40", "53", "55", "57", "58", "XX"),
    *(*sorted(DATA_CORRUPTED_CODES), "other"),
)
DRIFT_KINDS: Final = ("unknown_key", "changed_type")
PARTITION_STATES: Final = ("assigned", "claimed", "set_aside", "fenced", "stopped")
JOB_KINDS: Final = ("backfill", "renormalize", "redrive", "redact")
UNFINISHED_JOB_STATES: Final = ("running", "interrupted")
VERIFY_SCOPES: Final = ("all", "range", "sample")

NO_SHAPE_LABEL: Final = "none"
"""The shape of a record that can't be read, or that has no event."""


class MetricDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of /metrics. A label without values gets those of the topics."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    means: str
    hint: str
    labels: dict[str, tuple[str, ...]] = {}
    buckets: tuple[float, ...] = ()


_PARTITION: Final[dict[str, tuple[str, ...]]] = {"topic": (), "partition": ()}

METRICS: Final = (
    # Counts since this process started.
    MetricDescription(
        name="normalizer_records_total",
        kind="counter",
        means="Records read and committed.",
        hint="If it stays at 0 while lag grows, check normalizer_heartbeat_age_seconds, then the "
        "log.",
    ),
    MetricDescription(
        name="normalizer_holes_total",
        kind="counter",
        means="Offsets without a record, such as transaction markers and compacted records.",
        hint="Nothing. `normalizer ledger verify` proves that no record was there.",
    ),
    MetricDescription(
        name="normalizer_outcomes_total",
        kind="counter",
        means="Outcome of each event, or of a record without events, by the producer's shape. The "
        "number of events is the sum of stored, merged, and duplicate.",
        hint="quarantined: `normalizer quarantine list`. duplicate for long: a producer sends "
        "everything twice. A shape that appears or disappears: a producer was deployed.",
        labels={"shape": (*SHAPES, NO_SHAPE_LABEL), "outcome": RECORD_OUTCOMES},
    ),
    MetricDescription(
        name="normalizer_coercions_total",
        kind="counter",
        means="Values of stored events whose meaning a rule changed or guessed, by rule.",
        hint="`select * from projector.coercions_by_rule` shows the shapes. Correct the producer.",
        labels={"rule": COERCION_RULES},
    ),
    MetricDescription(
        name="normalizer_quarantined_total",
        kind="counter",
        means="Records or events rejected, by reason.",
        hint="`normalizer quarantine list --reason REASON`, then `quarantine show`. Correct the "
        "producer or the rule, then `normalizer quarantine redrive`.",
        labels={"reason": REJECTION_REASONS},
    ),
    MetricDescription(
        name="normalizer_drift_total",
        kind="counter",
        means="Sightings of an undocumented top-level key, or of a known one with a new type of "
        "value. This is a sample: at most 8 events of a shape are inspected per second.",
        hint="`select * from projector.drift` shows key, type, first offset, and an example. "
        "Nothing is lost, because the value is in events.extra. Extend the rules, or correct "
        "the producer.",
        labels={"shape": SHAPES, "kind": DRIFT_KINDS},
    ),
    MetricDescription(
        name="normalizer_drift_found_total",
        kind="counter",
        means="Rows that this process added to projector.drift: keys or types never seen before.",
        hint="The same as for normalizer_drift_total.",
        labels={"shape": SHAPES, "kind": DRIFT_KINDS},
    ),
    MetricDescription(
        name="normalizer_expired_unread_total",
        kind="counter",
        means="Events ignored because they're older than the retention of events although nobody "
        "had read them before: either lost events, or a wrong clock of a producer.",
        hint="This database can't store them any more. If lag was longer than --keep-events of "
        "`projector maintain`, raise it, and backfill into another database. Without lag a "
        "producer's clock is wrong.",
    ),
    MetricDescription(
        name="normalizer_batches_total",
        kind="counter",
        means="Batches, by why they closed: full of rows or bytes, old, because a partition is a "
        "suspect, because a fetch failed, or at the stop.",
        hint="If nearly all close by rows and lag grows, add processes. If all close by age, there "
        "is spare capacity.",
        labels={"closed_by": _BATCH_CLOSE_REASONS},
    ),
    MetricDescription(
        name="normalizer_batch_rows",
        kind="histogram",
        means="Outcomes per batch.",
        hint="Nothing. Small batches cost more per row, but are written only if there is spare "
        "capacity.",
        buckets=(1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000, 50_000),
    ),
    MetricDescription(
        name="normalizer_stage_seconds_total",
        kind="counter",
        means="Time by stage. fetch includes waiting for records, but not waiting for a batch to "
        "be due. wait means waiting for the last batch: until its rows are sent, and once the next "
        "batch is full, until it's written. write is the whole transaction with its retries.",
        hint="If wait grows, PostgreSQL is the limit. If normalize is near 1 per second, the "
        "processor is, so add processes.",
        labels={"stage": STAGES},
    ),
    MetricDescription(
        name="normalizer_commit_seconds",
        kind="histogram",
        means="Time of only the COMMIT of each transaction.",
        hint="If it's slow, check the database's disk, or a synchronous standby.",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
    ),
    MetricDescription(
        name="normalizer_retries_total",
        kind="counter",
        means="Failed attempts to write a batch, by SQLSTATE class, or none if there was no "
        "answer. A damaged table or index has its full code, XX001 or XX002.",
        hint="08, 57, none: the database restarts or is unreachable. 40: deadlocks. 53: out of "
        "space or connections. 55: somebody holds a lock. 25: it's read-only. XX001, XX002: "
        "restore it. other: a projection or a bug, and /readyz shows the error.",
        labels={"sqlstate_class": SQLSTATE_CLASSES},
    ),
    MetricDescription(
        name="normalizer_rebalances_total",
        kind="counter",
        means="Times the group assigned partitions to this process.",
        hint="If it keeps rising, processes die, or KAFKA_SESSION_TIMEOUT_MS is too short.",
    ),
    MetricDescription(
        name="normalizer_rejoins_total",
        kind="counter",
        means="Times this process left its group after an error and joined it again.",
        hint="The log event group.rejoining gives the reason.",
    ),
    MetricDescription(
        name="normalizer_fenced_total",
        kind="counter",
        means="Partitions lost to a newer claim of another process.",
        hint="One per rebalance is normal. Many mean that two groups write to one database.",
    ),
    MetricDescription(
        name="normalizer_gaps_total",
        kind="counter",
        means="Ranges of offsets that Kafka's retention deleted before they were read, so lost "
        "records.",
        hint="`select * from projector.gaps where reason = 'expired'` lists them. Raise "
        "retention.ms. Load them with `normalizer backfill` if you keep a copy of the topic, "
        "or let the producer send them again.",
    ),
    # The present state of this process.
    MetricDescription(
        name="normalizer_heartbeat_age_seconds",
        kind="gauge",
        means="Time since the event loop last ran. It updates this twice a second, even while it "
        "waits.",
        hint="Over 30, /livez fails. Keep the log, and restart the process.",
    ),
    MetricDescription(
        name="normalizer_open_batch_seconds",
        kind="gauge",
        means="Age of the oldest batch (or part set aside) that's being written: from its start to "
        "its commit, including waits for locks and failed attempts. 0 if there is none.",
        hint="From 5 on, /readyz and the log event batch.blocked show the offsets, the database's "
        "last error, and who holds the lock that the batch waits for.",
    ),
    MetricDescription(
        name="normalizer_partitions",
        kind="gauge",
        means="Partitions that the group assigned to this process, and how many of these are "
        "claimed (in PostgreSQL, and being read), set_aside (for example a part waits for a "
        "lock), fenced, or stopped.",
        hint="stopped: /readyz and the log event partition.stopped give the reason. If the topic "
        "was recreated, use `normalizer run --accept-reset`. assigned but not claimed: the "
        "database is unreachable, or another consumer group reads it.",
        labels={"state": PARTITION_STATES},
    ),
    MetricDescription(
        name="normalizer_ready",
        kind="gauge",
        means="1 if /readyz answers 200, else 0.",
        hint="`curl .../readyz` lists the reasons.",
    ),
    MetricDescription(
        name="normalizer_degraded",
        kind="gauge",
        means="1 while this process can't read some of its partitions as it should: a leader is "
        "unreachable, the lag is unknown, another consumer group reads them, or a record most "
        "likely kills its process. It stays ready, because it reads all others.",
        hint="`curl .../readyz` lists them under `degraded`.",
    ),
    MetricDescription(
        name="normalizer_build_info",
        kind="gauge",
        means="Always 1. The labels hold the version that runs, its version of the rules, and what "
        "reads the records: the native lane and Python (`native`), or Python alone (`python`).",
        hint="If more than one value stays for long, a deployment is stuck.",
        labels={"version": (), "rules": (), "core": ()},
    ),
    MetricDescription(
        name="normalizer_lane_panics_total",
        kind="counter",
        means="How often the native lane panicked. Python read those records, and after the third "
        "time it reads every record until the process restarts.",
        hint="It's our bug. Nothing is lost. Report the records that the log line `lane.panicked` "
        "names, and set NORMALIZER_CORE=python meanwhile.",
    ),
    # These metrics tell what the broker and the database answer at a scrape, so every process
    # reports the same values.
    MetricDescription(
        name="normalizer_broker_up",
        kind="gauge",
        means="Whether the brokers answered at this scrape.",
        hint="Look at Kafka. Nothing is lost. Until then the ends of logs are the last known ones.",
    ),
    MetricDescription(
        name="normalizer_database_up",
        kind="gauge",
        means="Whether PostgreSQL answered at this scrape.",
        hint="Look at PostgreSQL. Nothing is lost. Until then positions are the last known ones.",
    ),
    MetricDescription(
        name="normalizer_database_writable",
        kind="gauge",
        means="Whether it answered and accepts writes.",
        hint="It's a standby, or has default_transaction_read_only. DATABASE_URL must lead to the "
        "primary.",
    ),
    MetricDescription(
        name="normalizer_next_offset",
        kind="gauge",
        means="The stored position of each partition of the topics, whichever process reads it, or "
        "0 before the first. Missing until this process has read the positions once.",
        hint="It moves unless there is nothing to read.",
        labels=_PARTITION,
    ),
    MetricDescription(
        name="normalizer_lag_records",
        kind="gauge",
        means="Offsets between the stored position and the log's end. Every process reports every "
        "partition, so take the max by topic and partition. One live process is enough to see "
        "it grow. A partition whose end no broker has reported for 15 seconds is left out.",
        hint="If all partitions have lag, add processes or a faster database. If only one has, "
        "it's stuck.",
        labels=_PARTITION,
    ),
    MetricDescription(
        name="normalizer_lag_seconds",
        kind="gauge",
        means="How long the oldest unread record has been in the log, or 0 if none is unread. If "
        "its batch can't be decoded, it counts from when this process first saw it. Left out "
        "while the end is unknown, or before the first look at that record.",
        hint="The dashboards are this far behind.",
        labels=_PARTITION,
    ),
    MetricDescription(
        name="normalizer_time_to_expiry_seconds",
        kind="gauge",
        means="Time until retention.ms deletes the oldest unread record. The whole retention if "
        "none is unread, +Inf if nothing expires or the topic's settings are hidden. "
        "retention.bytes may delete it earlier.",
        hint="If it's low, raise retention.ms now (docs/operate/records-expire.md has the "
        "command), then remove the cause of the lag.",
        labels=_PARTITION,
    ),
    MetricDescription(
        name="normalizer_work_remaining_records",
        kind="gauge",
        means="Sum of normalizer_lag_records, for an autoscaler. Left out while the lag of any "
        "partition is unknown.",
        hint="Divide it by the records that one process handles in the time you allow.",
    ),
    MetricDescription(
        name="normalizer_unverified_seconds",
        kind="gauge",
        means="Time since all projections were last compared with the events, by scope: all "
        "events, a range of hours, or a sample (as maintain does). +Inf means never. Left "
        "out until this process has read it once.",
        hint="Run `projector verify`, for example once a day.",
        labels={"scope": VERIFY_SCOPES},
    ),
    MetricDescription(
        name="normalizer_divergent_rows",
        kind="gauge",
        means="Executions and hours whose projections are known to differ from the events, because "
        "verify found that, or because events were stored without their projections.",
        hint="`select * from projector.agreement`, then `projector repair`. Report it.",
    ),
    MetricDescription(
        name="normalizer_divergent_seconds",
        kind="gauge",
        means="How long the oldest of them has been known, or 0 if there are none.",
        hint="As above.",
    ),
    MetricDescription(
        name="normalizer_jobs",
        kind="gauge",
        means="Jobs over history that are running, or were interrupted and wait for their command.",
        hint="interrupted: find it with `normalizer jobs`, and run its command again to resume.",
        labels={"kind": JOB_KINDS, "state": UNFINISHED_JOB_STATES},
    ),
    MetricDescription(
        name="normalizer_job_progress_ratio",
        kind="gauge",
        means="The share of its source that the slowest running job has done, or 1 if none runs.",
        hint="`normalizer jobs` shows how long it will take and what throttles it.",
        labels={"kind": JOB_KINDS},
    ),
    MetricDescription(
        name="normalizer_oldest_snapshot_seconds",
        kind="gauge",
        means="Age of the oldest snapshot in the database that keeps vacuum from removing dead "
        "rows. Left out without the right pg_read_all_stats, which `normalizer check` asks "
        "for.",
        hint="Over 300, updates get slower by the minute. Find it in pg_stat_activity (order by "
        "xact_start) and end it, unless it's a dump. A VACUUM doesn't hold up others and "
        "doesn't count.",
    ),
    MetricDescription(
        name="normalizer_missing_migrations",
        kind="gauge",
        means="Migrations that this version needs and the database lacks.",
        hint="`normalizer migrate`.",
    ),
)


def metric_table_lines() -> Iterator[str]:
    """Yield the catalog as the lines of a Markdown table."""
    yield "| name | type | meaning | what to do |"
    yield "|---|---|---|---|"
    for metric in METRICS:
        labels = "".join(
            f"<br>{label}: {', '.join(values) or 'as they are'}"
            for label, values in metric.labels.items()
        )
        yield f"| `{metric.name}` | {metric.kind}{labels} | {metric.means} | {metric.hint} |"
