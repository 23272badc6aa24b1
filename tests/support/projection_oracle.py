"""Computes from rows of `events` what every view must show, as the truth for tests of projections.

simulator/view_fold.py computes the executions and calls, and this module makes the rows of the
views from them. It's a plain computation in Python that shares no SQL with the projections. Times
are in UTC, and a row is a dict by column.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from normalizer.core.evidence import Evidence
from simulator.expected_views import call_state
from simulator.view_fold import Row, call_role, fold_execution

ViewRows = list[tuple[Any, ...]]

LATENESS: Final = (
    (-1, "clock ahead"),
    (1, "under 1 s"),
    (10, "under 10 s"),
    (60, "under 1 min"),
    (600, "under 10 min"),
    (3600, "under 1 h"),
    (86400, "under 1 day"),
)
_OF_EXECUTION: Final = ("playbook", "version", "parent_execution_id")


def expected_views(rows: Iterable[Row]) -> dict[str, ViewRows]:
    """View -> its rows, sorted. Views about now lack columns that depend on the clock."""
    by_execution: dict[int, list[Row]] = defaultdict(list)
    everything = list(rows)
    for row in everything:
        by_execution[row["execution_id"]].append(row)
    folded = list(map(fold_execution, by_execution.values()))
    executions = [execution for execution, _ in folded]
    calls = [call for _, own in folded for call in own]
    views = _count_events(everything) | _count_executions(executions, calls) | _count_calls(calls)
    return {name: sorted(shown, key=_sort_key) for name, shown in views.items()}


def hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _lateness_bucket(moment: datetime) -> tuple[datetime, int]:
    """Its minute in the last 48 hours, or its hour before them, and how many seconds that is."""
    if moment < hour(datetime.now(UTC)) - timedelta(hours=48):
        return hour(moment), 3_600
    return minute(moment), 60


def _count_events(rows: Sequence[Row]) -> dict[str, ViewRows]:
    minutes: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    hours: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    without_command: Counter[Any] = Counter()
    arrivals: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    unsaid: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    coercions: Counter[Any] = Counter()
    for row in rows:
        created_at, what = row["created_at"], (row["status"], row["attempts"])
        for counted in (
            minutes[*_lateness_bucket(created_at), row["event_type"], *what],
            hours[hour(created_at), row["step"], row["event_type"], *what],
        ):
            counted[0] += 1
            counted[1] += not Evidence.unpack(row["evidence"]).are_attempts_declared
        if call_role(row) and not row["command_id"]:
            without_command[hour(created_at), row["step"], row["event_type"], row["status"]] += 1
        arrived = hour(row["recorded_at"] or created_at)
        lateness = _lateness(created_at, row["recorded_at"])
        on_time = lateness in ("unknown", "under 1 s")
        counts = arrivals[arrived, row["shape"], row["worker_id"] or "", lateness, on_time]
        counts[0] += 1
        if not on_time:
            counts[1] += (row["recorded_at"] - created_at) // timedelta(microseconds=1)
        defaulted = [rank == 0 for rank in Evidence.unpack(row["evidence"])]
        sums = unsaid[arrived, row["shape"]]
        sums[:] = [a + b for a, b in zip(sums, (1, *defaulted), strict=True)]
        for coercion in row["coercions"] or ():
            coercions[arrived, row["shape"], coercion["rule"]] += 1
    return {
        "attempts_by_status": [(*key, *counts) for key, counts in minutes.items()],
        "event_counts": [(*key, *counts) for key, counts in hours.items()],
        "calls_without_command": _counted(without_command),
        "late_arrivals": [(*key, number, us / 1_000_000) for key, (number, us) in arrivals.items()],
        "defaults_by_shape": [(*key, *sums) for key, sums in unsaid.items()],
        "coercions_by_rule": _counted(coercions),
    }


def _lateness(created_at: datetime, recorded_at: datetime | None) -> str:
    if recorded_at is None:
        return "unknown"
    for seconds, words in LATENESS:
        if recorded_at < created_at + timedelta(seconds=seconds):
            return words
    return "over 1 day"


def _count_executions(executions: Sequence[Row], calls: Sequence[Row]) -> dict[str, ViewRows]:
    failures: dict[int, list[datetime]] = defaultdict(list)
    tries: dict[int, list[datetime | None]] = defaultdict(list)
    for call in calls:
        tries[call["execution_id"]].append(call["finished_at"])
        if call["status"] not in (None, "COMPLETED"):
            failures[call["execution_id"]].append(call["finished_at"])
    outcomes: Counter[Any] = Counter()
    views: dict[str, ViewRows] = defaultdict(list)
    for one in executions:
        key, playbook, status = one["execution_id"], one["playbook"], one["status"]
        ended_at, first_at, active_at = one["ended_at"], one["first_at"], one["active_at"]
        active = bool(ended_at and active_at and active_at > ended_at)
        if one["begun_at"]:
            outcomes[hour(one["begun_at"]), playbook, "BEGUN"] += 1
        views["executions"].append((
            key, hour(first_at), playbook, one["version"], status, one["catalog_id"],
            one["parent_execution_id"], first_at, one["begun_at"], one["last_at"], ended_at,
            (ended_at - first_at).total_seconds() if ended_at else None, one["events"],
            one["highest_attempts"], len(failures[key]), *one["counts"], one["contradicting"],
            active, one["last_event_type"], one["last_step"],
        ))  # fmt: skip
        if ended_at is None:
            done = [finished_at for finished_at in tries[key] if finished_at]
            if done and len(done) == len(tries[key]):
                views["executions_without_end"].append((
                    key, hour(first_at), playbook, len(done), max(done), one["last_at"],
                ))  # fmt: skip
            continue
        outcomes[hour(ended_at), playbook, status] += 1
        if one["contradicting"] or active:
            views["contradicting_executions"].append((
                hour(ended_at), key, playbook, status, ended_at, *one["firsts"], active_at,
                one["contradicting"], active,
            ))  # fmt: skip
        if status == "COMPLETED" and failures[key]:
            views["completed_with_failures"].append((
                hour(ended_at), key, playbook, ended_at, len(failures[key]), max(failures[key]),
            ))  # fmt: skip
    views["playbook_versions"] = list(_versions(executions))
    names = ("playbook_versions", "executions", "executions_without_end",
             "contradicting_executions", "completed_with_failures")  # fmt: skip
    return {name: views[name] for name in names} | {"execution_outcomes": _counted(outcomes)}


def _versions(executions: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for one in executions:
        groups[hour(one["first_at"]), one["playbook"], one["version"]].append(one)
    for key, them in groups.items():
        statuses = Counter(one["status"] for one in them)
        took = [one["ended_at"] - one["first_at"] for one in them if one["ended_at"]]
        ended = (statuses[word] for word in ("COMPLETED", "FAILED", "CANCELLED"))
        yield (*key, len(them), *ended, sum(took, timedelta()).total_seconds() if took else None)


def _loops(calls: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    """Without the hour, which is its execution's."""
    loops: dict[Any, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        if call["iteration"] is not None:
            loops[call["execution_id"], call["step"]][call["iteration"]].append(call)
    for key, iterations in loops.items():
        done = [any(c["status"] == "COMPLETED" for c in tries) for tries in iterations.values()]
        over = [all(c["finished_at"] for c in tries) for tries in iterations.values()]
        failed = sum(b and not a for a, b in zip(done, over, strict=True))
        yield (*key, len(iterations), sum(done), failed)


def _count_calls(calls: Sequence[Row]) -> dict[str, ViewRows]:
    finished = [call for call in calls if call["finished_at"]]
    views: dict[str, ViewRows] = {"calls": [], "open_calls": [], "attempts_in_order": []}
    for call in calls:
        views["calls"].append(_call_row(call))
        if not call["finished_at"]:
            views["open_calls"].append(_open_row(call))
    outcomes: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    minutes: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    workers: dict[Any, list[Row]] = defaultdict(list)
    errors: Counter[Any] = Counter()
    times: Counter[Any] = Counter()
    for call in finished:
        at, step, status = hour(call["finished_at"]), call["step"], call["status"]
        attempts, failed = call["attempts"], status != "COMPLETED"
        key = (call["playbook"], step, attempts, status)
        counts = outcomes[at, *key]
        inferred = call["attribution"] == "inferred"
        for n, one in enumerate((True, not failed, failed, call["exhausted"], inferred)):
            counts[n] += one
        minutes[minute(call["finished_at"]), step][attempts > 0] += 1
        workers[at, call["worker_id"] or ""].append(call)
        if failed:
            errors[at, step, attempts, status, call["error_class"]] += 1
        measured = {
            "duration": call["duration_us"],
            "queue": call["queue_us"],
            "backoff": _between(call["previous_failure_at"], call["begun_at"]),
        }
        for measure, microseconds in measured.items():
            if microseconds is not None:
                times[at, measure, *key, _bucket(microseconds)] += 1
    views["call_outcomes_by_attempt"] = [(*key, *counts) for key, counts in outcomes.items()]
    views["call_time_histogram"] = _counted(times)
    views["failures_by_error"] = _counted(errors)
    views["error_groups"] = list(_error_groups(finished))
    views["failed_calls"] = list(_failed_calls(finished))
    views["worker_failures"] = [(*key, *_count_worker(done)) for key, done in workers.items()]
    views["retries_by_minute"] = [(*key, *counts) for key, counts in minutes.items()]
    views["attempts_in_order"] = list(_in_order(calls))
    views["loops"] = list(_loops(calls))
    return views


def _error_groups(finished: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for call in finished:
        if call["status"] != "COMPLETED":
            groups[call["error_class"]].append(call)
    for kind, calls in groups.items():
        times = [call["finished_at"] for call in calls]
        yield kind, min(times), max(times)


def _failed_calls(finished: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    for call in finished:
        if call["status"] != "COMPLETED":
            yield (
                hour(call["finished_at"]), call["finished_at"], call["error_class"],
                call["error"], call["execution_id"], call["playbook"], call["step"],
                call["command_id"], call["attempts"], call["status"], call["worker_id"],
            )  # fmt: skip


def _call_row(call: Row) -> tuple[Any, ...]:
    duration_us = call["duration_us"]
    backoff_us = _between(call["previous_failure_at"], call["begun_at"])
    return (
        hour(call["finished_at"] or call["begun_at"]), call["execution_id"],
        *(call[name] for name in _OF_EXECUTION), call["step"], call["command_id"],
        call["iteration"], call["attempts"], call_state(call),
        call["begun_at"], call["issued_at"], call["claimed_at"], call["started_at"],
        call["finished_at"], _in_seconds(duration_us), _in_seconds(call["queue_us"]),
        _in_seconds(backoff_us), call["max_attempts"], call["exhausted"], call["worker_id"],
        call["error"], call["error_class"], call["attribution"],
    )  # fmt: skip


def _open_row(call: Row) -> tuple[Any, ...]:
    waits_for = {"RUNNING": "finish", "CLAIMED": "start", "PENDING": "claim"}[call_state(call)]
    since = call["started_at"] or call["claimed_at"] or call["issued_at"] or call["begun_at"]
    return (
        hour(call["begun_at"]), call["execution_id"], call["playbook"], call["step"],
        call["command_id"], call["iteration"], call["attempts"], call["begun_at"],
        call["worker_id"], waits_for, since,
    )  # fmt: skip


def _count_worker(done: Sequence[Row]) -> tuple[Any, ...]:
    bad = sum(call["status"] != "COMPLETED" for call in done)
    took = [call["duration_us"] for call in done if call["duration_us"] is not None]
    return len(done), bad, bad / len(done), sum(took) / 1_000_000 / len(took) if took else None


def _in_order(calls: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    """Without the hour, which is its execution's."""
    steps: dict[Any, list[Row]] = defaultdict(list)
    for call in calls:
        steps[call["execution_id"], call["step"], call["iteration"]].append(call)
    for key, tries in steps.items():
        tries.sort(
            key=lambda call: (call["begun_at"], call["attempts"], _bytes(call["command_id"]))
        )
        for ordinal, call in enumerate(tries):
            yield (
                *key, ordinal, call["attempts"], call["command_id"], call["begun_at"],
                call_state(call),
            )  # fmt: skip


def _percentiles(counts: Counter[int]) -> tuple[Any, ...]:
    total = counts.total()
    shown: list[Any] = [total]
    for fraction in (0.50, 0.95, 0.99):
        up_to = 0
        for bucket in sorted(counts):
            up_to += counts[bucket]
            if up_to * 100 >= round(fraction * 100) * total:
                shown.append(_seconds(bucket))
                break
    return tuple(shown)


def _bucket(microseconds: int) -> int:
    return math.floor(8 * math.log(microseconds) / math.log(2)) if microseconds > 0 else -1


def _seconds(bucket: int) -> float:
    return 0.0 if bucket < 0 else 2.0 ** ((bucket + 0.5) / 8) / 1_000_000


def _between(earlier: datetime | None, later: datetime | None) -> int | None:
    if earlier is None or later is None or later < earlier:
        return None
    return (later - earlier) // timedelta(microseconds=1)


def _in_seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1_000_000


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _counted(counts: Counter[Any]) -> ViewRows:
    return [(*key, count) for key, count in counts.items() if count]


def _sort_key(row: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, str(value)) for value in row]
