"""Rows of `events` in, what every view must show out: a plain fold, the oracle of the projections.

Written from the rules and not from the SQL: it sorts and looks, one execution and one command at a
time, and shares nothing with what it is compared with. Times are aware; a row is a dict by column.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

Row = dict[str, Any]
Shown = list[tuple[Any, ...]]

LIFECYCLE: Final = {
    "begins": (
        "playbook.initialized playbook_initialized playbook.started playbook_started "
        "execution.started execution_start"
    ).split(),
    "COMPLETED": (
        "playbook.completed playbook_completed execution.completed execution_complete"
    ).split(),
    "FAILED": "playbook.failed playbook_failed execution.failed execution_error".split(),
    "CANCELLED": "playbook.cancelled playbook_cancelled execution.cancelled".split(),
}
CALL_MARKS: Final = {
    "issued_at": ["command.issued"],
    "claimed_at": ["command.claimed"],
    "started_at": ["command.started", "action_started"],
}
CALL_ENDS: Final = {
    # (how sure, the outcome of the name alone)
    "call.done": (0, "COMPLETED"),
    "action_done": (0, "COMPLETED"),
    "call_done": (0, "COMPLETED"),
    "call.error": (0, "FAILED"),
    "command.completed": (1, "COMPLETED"),
    "action_completed": (1, "COMPLETED"),
    "command.failed": (1, "FAILED"),
    "action_failed": (1, "FAILED"),
    "command.cancelled": (1, "CANCELLED"),
}
WORDS: Final = ("COMPLETED", "FAILED", "ERROR", "CANCELLED")
LATENESS: Final = (
    (-1, "clock ahead"),
    (1, "under 1 s"),
    (10, "under 10 s"),
    (60, "under 1 min"),
    (600, "under 10 min"),
    (3600, "under 1 h"),
    (86400, "under 1 day"),
)


def fold(rows: Iterable[Row]) -> dict[str, Shown]:
    """View -> its rows, sorted. Of views about now without what the clock says."""
    by_execution: dict[int, list[Row]] = defaultdict(list)
    everything = list(rows)
    for row in everything:
        by_execution[row["execution_id"]].append(row)
    calls = [call for told in by_execution.values() for call in _calls(told)]
    executions = [_execution(told) for told in by_execution.values()]
    playbooks = {one["execution_id"]: one["playbook"] for one in executions}
    for call in calls:
        call["playbook"] = playbooks[call["execution_id"]]
    calls = [call for call in calls if call["step"] != "__orchestrate__"]
    views = _of_events(everything) | _of_executions(executions, calls) | _of_calls(calls)
    return {name: sorted(shown, key=_sortable) for name, shown in views.items()}


def hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _execution(told: Sequence[Row]) -> Row:
    last = max(told, key=lambda row: (row["created_at"], _last_words(row)))
    ends: dict[str, list[datetime]] = defaultdict(list)
    playbooks: list[tuple[int, datetime, bytes, bytes]] = []
    for row in told:
        begins = row["event_type"] in LIFECYCLE["begins"]
        outcome = _lifecycle_outcome(row)
        if outcome is not None:
            ends[outcome].append(row["created_at"])
        path, version = _path(row["context"]) if begins else (None, "")
        if path:
            playbooks.append((0, row["created_at"], *_named(path, version)))
        elif (begins or outcome is not None) and row["step"]:
            playbooks.append((1, row["created_at"], *_named(row["step"], "")))
    first_ends = {outcome: min(moments) for outcome, moments in ends.items()}
    worst_first = [word for word in ("FAILED", "CANCELLED", "COMPLETED") if word in first_ends]
    status = min(worst_first, key=lambda word: first_ends[word]) if worst_first else "RUNNING"
    activity = [row["created_at"] for row in told if _is_activity(row)]
    playbook, version = (word.decode() for word in min(playbooks)[2:]) if playbooks else ("", "")
    return {
        "execution_id": told[0]["execution_id"],
        "playbook": playbook,
        "version": version or None,
        "status": status,
        "catalog_id": _least(row["catalog_id"] for row in told),
        "parent_execution_id": _least(row["parent_execution_id"] for row in told),
        "first_at": min(row["created_at"] for row in told),
        "begun_at": _least(
            row["created_at"] for row in told if row["event_type"] in LIFECYCLE["begins"]
        ),
        "last_at": last["created_at"],
        "ended_at": first_ends.get(status),
        "events": len(told),
        "highest_attempts": max(row["attempts"] for row in told),
        "counts": tuple(len(ends[word]) for word in ("COMPLETED", "FAILED", "CANCELLED")),
        "firsts": tuple(first_ends.get(word) for word in ("COMPLETED", "FAILED", "CANCELLED")),
        "contradicting": len(first_ends) > 1,
        "active_at": max(activity, default=None),
        "last_event_type": last["event_type"],
        "last_step": last["step"],
        "id_bounds": _id_bounds([row["event_id"] for row in told]),
    }


def _id_bounds(event_ids: Sequence[int]) -> tuple[int | None, ...]:
    """Least and greatest of the ids below 2^62, of the derived and of the hashed ones."""
    derived_from, hashed_from = 1 << 62, 3 << 61
    regions = (
        [one for one in event_ids if one < derived_from],
        [one for one in event_ids if derived_from <= one < hashed_from],
        [one for one in event_ids if one >= hashed_from],
    )
    return tuple(find(ids, default=None) for ids in regions for find in (min, max))


def _named(playbook: str, version: str) -> tuple[bytes, bytes]:
    return playbook[:200].encode(), version[:100].encode()


def _last_words(row: Row) -> tuple[bytes, bytes]:
    return row["event_type"].encode(), row["step"].encode()


def _lifecycle_outcome(row: Row) -> str | None:
    for outcome in ("COMPLETED", "FAILED", "CANCELLED"):
        if row["event_type"] in LIFECYCLE[outcome]:
            declared = row["status"]
            return declared if declared in ("COMPLETED", "FAILED", "CANCELLED") else outcome
    return None


def _is_activity(row: Row) -> bool:
    kind = row["event_type"]
    reports = kind in CALL_ENDS and CALL_ENDS[kind][0] == 1
    return not (reports or _lifecycle_outcome(row) or kind.startswith("workflow"))


def _path(context: Any) -> tuple[str | None, str]:
    if not isinstance(context, dict) or not isinstance(context.get("path"), str):
        return None, ""
    version = context.get("version")
    return context["path"], "" if version is None else str(version)


def _calls(told: Sequence[Row]) -> Iterator[Row]:
    """The tries of every command of one execution."""
    commands: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in told:
        if row["event_type"] in CALL_ENDS or any(
            row["event_type"] in kinds for kinds in CALL_MARKS.values()
        ):
            commands[_command(row)].append(row)
    tries: list[Row] = []
    for (command_id, *_), rows in commands.items():
        numbers = {row["attempts"] for row in rows if row["evidence"] >= 100}
        taking = next(iter(numbers)) if len(numbers) == 1 else 0
        by_try: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_try[row["attempts"] if row["evidence"] >= 100 else taking].append(row)
        tries += [_try(command_id, attempts, events) for attempts, events in by_try.items()]
    for one in tries:
        before = [failure["finished_at"] for failure in tries if _goes_before(failure, one)]
        one["failed_before"] = max(before, default=None)
    yield from tries


def _command(row: Row) -> tuple[Any, ...]:
    if row["command_id"]:
        return (row["command_id"],)
    return (None, row["step"], row["iteration"])


def _try(command_id: str | None, attempts: int, rows: Sequence[Row]) -> Row:
    ends = [row for row in rows if row["event_type"] in CALL_ENDS and not _is_parked(row)]
    outcome = _first(ends, _call_status)
    status = outcome[1] if outcome else None
    worker = _first(rows, lambda row: row["worker_id"], sure=False)
    step = _first(rows, lambda row: row["step"], sure=False)
    limit = _first(rows, lambda row: row["max_attempts"], sure=False)
    duration = _first(ends, lambda row: _microseconds(row["duration"]))
    error = _first(ends, lambda row: (row["error"] or "")[:1000])
    marks = {
        mark: min((row["created_at"] for row in rows if row["event_type"] in kinds), default=None)
        for mark, kinds in CALL_MARKS.items()
    }
    finished_at = outcome[0] if outcome else None
    return marks | {
        "execution_id": rows[0]["execution_id"],
        "command_id": command_id,
        "attempts": attempts,
        "step": step[1] if step else "",
        "iteration": _least(row["iteration"] for row in rows),
        "worker_id": worker[1] if worker else None,
        "max_attempts": limit[1] if limit else None,
        "begun_at": min(row["created_at"] for row in rows),
        "finished_at": finished_at,
        "status": status,
        "error": error[1] if error and status != "COMPLETED" else None,
        "duration_us": duration[1] if duration else _between(marks["started_at"], finished_at),
        "queue_us": _between(marks["issued_at"], marks["claimed_at"]),
    }


def _is_parked(row: Row) -> bool:
    context = row["context"]
    return (
        CALL_ENDS[row["event_type"]] == (1, "COMPLETED")
        and isinstance(context, dict)
        and context.get("pending_callback") is True
    )


def _call_status(row: Row) -> str:
    return row["status"] if row["status"] in WORDS else CALL_ENDS[row["event_type"]][1]


def _first(
    rows: Iterable[Row], value: Callable[[Row], Any], *, sure: bool = True
) -> tuple[datetime, Any] | None:
    """When and what: the earliest value there is; of the surer events first, where that counts."""
    found = [
        (CALL_ENDS[row["event_type"]][0] if sure else 0, row["created_at"], value(row))
        for row in rows
        if value(row) not in (None, "")
    ]
    if not found:
        return None
    _, moment, what = min(found, key=lambda one: (*one[:2], _bytes(one[2])))
    return moment, what


def _goes_before(failure: Row, retry: Row) -> bool:
    if failure["attempts"] != retry["attempts"] - 1 or failure["status"] in (None, "COMPLETED"):
        return False
    if failure["finished_at"] > retry["begun_at"]:
        return False
    same_command = _command(failure) == _command(retry)
    same_step = failure["step"] != "" and failure["step"] == retry["step"]
    return same_command or (same_step and failure["iteration"] == retry["iteration"])


def _of_events(rows: Sequence[Row]) -> dict[str, Shown]:
    minutes: Counter[Any] = Counter()
    hours: Counter[Any] = Counter()
    types: Counter[Any] = Counter()
    arrivals: Counter[Any] = Counter()
    unsaid: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    coercions: Counter[Any] = Counter()
    for row in rows:
        created_at, what = row["created_at"], (row["status"], row["attempts"])
        minutes[minute(created_at), row["event_type"], *what] += 1
        types[minute(created_at), row["event_type"]] += 1
        hours[hour(created_at), row["step"], row["event_type"], *what] += 1
        arrived = hour(row["recorded_at"] or created_at)
        lateness = _lateness(created_at, row["recorded_at"])
        arrivals[arrived, row["shape"], lateness, lateness in ("unknown", "under 1 s")] += 1
        evidence = row["evidence"]
        defaulted = (evidence // 100 == 0, evidence // 10 % 10 == 0, evidence % 10 == 0)
        sums = unsaid[arrived, row["shape"]]
        sums[:] = [a + b for a, b in zip(sums, (1, *defaulted), strict=True)]
        for coercion in row["coercions"] or ():
            coercions[arrived, row["shape"], coercion["rule"]] += 1
    return {
        "attempts_by_status": _counted(minutes),
        "attempts_by_status_hourly": _counted(hours),
        "events_per_second": [(*key, count, count / 60) for key, count in types.items()],
        "late_arrivals": _counted(arrivals),
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


def _of_executions(executions: Sequence[Row], calls: Sequence[Row]) -> dict[str, Shown]:
    failures: dict[int, list[datetime]] = defaultdict(list)
    tries: dict[int, list[datetime | None]] = defaultdict(list)
    for call in calls:
        tries[call["execution_id"]].append(call["finished_at"])
        if call["status"] not in (None, "COMPLETED"):
            failures[call["execution_id"]].append(call["finished_at"])
    begun: Counter[Any] = Counter()
    ended: Counter[Any] = Counter()
    views: dict[str, Shown] = defaultdict(list)
    for one in executions:
        key, playbook, status = one["execution_id"], one["playbook"], one["status"]
        ended_at, first_at, active_at = one["ended_at"], one["first_at"], one["active_at"]
        active = bool(ended_at and active_at and active_at > ended_at)
        if one["begun_at"]:
            begun[hour(one["begun_at"]), playbook] += 1
        views["executions"].append((
            key, hour(first_at), playbook, one["version"], status, one["catalog_id"],
            one["parent_execution_id"], first_at, one["last_at"], ended_at,
            (ended_at - first_at).total_seconds() if ended_at else None, one["events"],
            one["highest_attempts"], len(failures[key]), *one["counts"], one["contradicting"],
            active, one["last_event_type"], one["last_step"], *one["id_bounds"], 0,
        ))  # fmt: skip
        if ended_at is None:
            done = [finished_at for finished_at in tries[key] if finished_at]
            if done and len(done) == len(tries[key]):
                views["executions_without_end"].append((
                    key, hour(first_at), playbook, len(done), max(done), one["last_at"],
                ))  # fmt: skip
            continue
        ended[hour(ended_at), playbook, status] += 1
        if one["contradicting"] or active:
            views["contradicting_executions"].append((
                hour(ended_at), key, playbook, status, ended_at, *one["firsts"], active_at,
                one["contradicting"], active,
            ))  # fmt: skip
        if status == "COMPLETED" and failures[key]:
            views["completed_with_failures"].append((
                hour(ended_at), key, playbook, ended_at, len(failures[key]), max(failures[key]),
            ))  # fmt: skip
    names = ("executions", "executions_without_end", "contradicting_executions",
             "completed_with_failures")  # fmt: skip
    return {name: views[name] for name in names} | {
        "executions_begun": _counted(begun),
        "execution_outcomes": _counted(ended),
    }


def _of_calls(calls: Sequence[Row]) -> dict[str, Shown]:
    finished = [call for call in calls if call["finished_at"]]
    views: dict[str, Shown] = {"calls": [], "open_calls": [], "tries_in_order": []}
    for call in calls:
        views["calls"].append(_call_row(call))
        if not call["finished_at"]:
            views["open_calls"].append(_open_row(call))
    outcomes: dict[Any, Counter[str]] = defaultdict(Counter)
    exhausted: Counter[Any] = Counter()
    workers: dict[Any, list[Row]] = defaultdict(list)
    errors: Counter[Any] = Counter()
    durations: Counter[Any] = Counter()
    times: dict[str, dict[Any, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for call in finished:
        at, step, status = hour(call["finished_at"]), call["step"], call["status"]
        attempts, playbook = call["attempts"], call["playbook"]
        outcomes[at, playbook, step, attempts][status] += 1
        exhausted[at, playbook, step] += _is_exhausted(call)
        workers[at, call["worker_id"] or ""].append(call)
        if status != "COMPLETED":
            errors[at, step, attempts, status, _error_class(call["error"] or "")] += 1
        if call["duration_us"] is not None:
            bucket = _bucket(call["duration_us"])
            durations[at, playbook, step, attempts, status, bucket, _seconds(bucket)] += 1
            times["call_durations_by_attempt"][at, step, attempts][bucket] += 1
        if call["queue_us"] is not None:
            times["call_queue_waits"][at, step][_bucket(call["queue_us"])] += 1
        backoff = _between(call["failed_before"], call["begun_at"])
        if backoff is not None:
            times["retry_backoffs"][at, step, attempts][_bucket(backoff)] += 1
    for name in ("call_durations_by_attempt", "call_queue_waits", "retry_backoffs"):
        views[name] = [(*key, *_percentiles(counts)) for key, counts in times[name].items()]
    views |= _rates(outcomes, exhausted)
    views["failures_by_error"] = _counted(errors)
    views["call_duration_histogram"] = _counted(durations)
    views["worker_failures"] = [(*key, *_of_worker(done)) for key, done in workers.items()]
    views["retries_by_minute"] = _counted(
        Counter((minute(c["begun_at"]), c["step"]) for c in calls if c["attempts"] > 0)
    )
    views["tries_in_order"] = list(_in_order(calls))
    return views


def _call_row(call: Row) -> tuple[Any, ...]:
    duration_us = call["duration_us"]
    backoff_us = _between(call["failed_before"], call["begun_at"])
    return (
        hour(call["finished_at"] or call["begun_at"]), call["execution_id"], call["playbook"],
        call["step"], call["command_id"], call["iteration"], call["attempts"], _state(call),
        call["begun_at"], call["issued_at"], call["claimed_at"], call["started_at"],
        call["finished_at"], _in_seconds(duration_us), _in_seconds(call["queue_us"]),
        _in_seconds(backoff_us), call["max_attempts"], _is_exhausted(call), call["worker_id"],
        call["error"],
    )  # fmt: skip


def _state(call: Row) -> str:
    if call["status"]:
        return str(call["status"])
    if call["started_at"]:
        return "RUNNING"
    return "CLAIMED" if call["claimed_at"] else "PENDING"


def _open_row(call: Row) -> tuple[Any, ...]:
    waits_for = {"RUNNING": "finish", "CLAIMED": "start", "PENDING": "claim"}[_state(call)]
    since = call["started_at"] or call["claimed_at"] or call["issued_at"] or call["begun_at"]
    return (
        hour(call["begun_at"]), call["execution_id"], call["playbook"], call["step"],
        call["command_id"], call["iteration"], call["attempts"], call["worker_id"], waits_for,
        since,
    )  # fmt: skip


def _is_exhausted(call: Row) -> bool:
    return (
        call["status"] not in (None, "COMPLETED")
        and call["max_attempts"] is not None
        and call["attempts"] + 1 >= call["max_attempts"]
    )


def _rates(outcomes: dict[Any, Counter[str]], exhausted: Counter[Any]) -> dict[str, Shown]:
    views: dict[str, Shown] = {
        "call_outcomes_by_attempt": [],
        "first_attempt_success": [],
        "error_rate_by_attempt": [],
        "retry_recovery": [],
    }
    together: dict[Any, Counter[str]] = defaultdict(Counter)
    for (at, playbook, step, attempts), counts in outcomes.items():
        total, good = counts.total(), counts["COMPLETED"]
        together[at, playbook, step] += counts
        views["call_outcomes_by_attempt"] += [
            (at, playbook, step, attempts, status, count) for status, count in counts.items()
        ]
        rate = (at, playbook, step, attempts, total, good, good / total)
        views["error_rate_by_attempt"].append((*rate[:5], total - good, (total - good) / total))
        if attempts:
            views["retry_recovery"].append(rate)
        else:
            views["first_attempt_success"].append((*rate[:3], *rate[4:]))
    views["attempts_per_success"] = []
    views["retry_exhaustion"] = []
    for key, counts in together.items():
        total, good = counts.total(), counts["COMPLETED"]
        bad, last = total - good, exhausted[key]
        views["attempts_per_success"].append((*key, total, good, total / good if good else None))
        if bad:
            views["retry_exhaustion"].append((*key, bad, last, last / bad))
    return views


def _of_worker(done: Sequence[Row]) -> tuple[Any, ...]:
    bad = sum(call["status"] != "COMPLETED" for call in done)
    took = [call["duration_us"] for call in done if call["duration_us"] is not None]
    return len(done), bad, bad / len(done), sum(took) / 1_000_000 / len(took) if took else None


def _in_order(calls: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    """Without the hour, which is its execution's."""
    steps: dict[Any, list[Row]] = defaultdict(list)
    for call in calls:
        steps[call["execution_id"], call["step"], call["iteration"]].append(call)
    for key, tries in steps.items():
        tries.sort(key=lambda call: (call["begun_at"], call["attempts"], _key(call)))
        for ordinal, call in enumerate(tries):
            yield (
                *key, ordinal, call["attempts"], call["command_id"], call["begun_at"],
                call["status"] or "RUNNING",
            )  # fmt: skip


def _key(call: Row) -> bytes:
    """How commands are ordered that have nothing else between them."""
    command_id: str | None = call["command_id"]
    if command_id is None:
        iteration = "" if call["iteration"] is None else call["iteration"]
        return f"#{iteration} {call['step']}".encode()
    return (f"#{command_id}" if command_id.startswith("#") else command_id).encode()


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


def _error_class(error: str) -> str:
    kind = re.sub(r"\"[^\"]*\"|'[^']*'", "?", error[:400])
    kind = re.sub(r"\b(?:0x)?[0-9a-fA-F-]*[0-9][0-9a-fA-F-]*\b", "#", kind)
    return re.sub(r"\s+", " ", kind)[:120].strip(" ")


def _microseconds(seconds: float | None) -> int | None:
    if seconds is None or not 0 <= seconds <= 2_592_000:
        return None
    return round(seconds * 1_000_000)


def _between(earlier: datetime | None, later: datetime | None) -> int | None:
    if earlier is None or later is None or later < earlier:
        return None
    return (later - earlier) // timedelta(microseconds=1)


def _in_seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1_000_000


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _counted(counts: Counter[Any]) -> Shown:
    return [(*key, count) for key, count in counts.items() if count]


def _sortable(row: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, str(value)) for value in row]
