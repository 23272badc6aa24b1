"""Rows of `events` in, what every view must show out: a plain fold, the oracle of the projections.

Written from the rules and not from the SQL: it sorts and looks, one execution and one command at a
time, and shares nothing with what it is compared with. Times are aware; a row is a dict by column.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from simulator.call_tries import CallEvent, tries_of

Row = dict[str, Any]
ViewRows = list[tuple[Any, ...]]

LIFECYCLE: Final = {
    "begins": (
        "playbook.initialized playbook_initialized playbook.started playbook_started "
        "execution.started execution_start execution.start execution_started"
    ).split(),
    "COMPLETED": (
        "playbook.completed playbook_completed execution.completed execution_complete "
        "execution_completed"
    ).split(),
    "FAILED": (
        "playbook.failed playbook_failed execution.failed execution_error execution_failed"
    ).split(),
    "CANCELLED": (
        "playbook.cancelled playbook_cancelled execution.cancelled execution_cancelled"
    ).split(),
}
CALL_MARKS: Final = {
    "issued_at": ["command.issued", "command_issued"],
    "claimed_at": ["command.claimed", "command_claimed"],
    "started_at": ["command.started", "action_started", "command_started"],
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
    "command.timed_out": (1, "FAILED"),
    "command.timeout": (1, "FAILED"),
    "command.cancelled": (1, "CANCELLED"),
}
END_CLASSES: Final[dict[str, str]] = {
    "action_done": "call.done",
    "call_done": "call.done",
    "action_completed": "command.completed",
    "action_failed": "command.failed",
    "command.timed_out": "command.failed",
    "command.timeout": "command.failed",
}
"""Other spellings of one type."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WORST_FIRST: Final = ("FAILED", "ERROR", "CANCELLED", "COMPLETED")
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


_OF_EXECUTION: Final = ("playbook", "version", "parent_execution_id")
"""What a call has of its execution."""


def expected_views(rows: Iterable[Row]) -> dict[str, ViewRows]:
    """View -> its rows, sorted. Views about now lack columns that depend on the clock."""
    by_execution: dict[int, list[Row]] = defaultdict(list)
    everything = list(rows)
    for row in everything:
        by_execution[row["execution_id"]].append(row)
    calls = [call for event_rows in by_execution.values() for call in _calls(event_rows)]
    executions = [_execution(event_rows) for event_rows in by_execution.values()]
    by_id = {one["execution_id"]: one for one in executions}
    for call in calls:
        call |= {name: by_id[call["execution_id"]][name] for name in _OF_EXECUTION}
    calls = [call for call in calls if call["step"] != "__orchestrate__"]
    views = _of_events(everything) | _of_executions(executions, calls) | _of_calls(calls)
    return {name: sorted(shown, key=_sort_key) for name, shown in views.items()}


def hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _bucket_of(moment: datetime) -> tuple[datetime, int]:
    """Its minute in the last 48 hours, its hour before them; and how many seconds that is."""
    if moment < hour(datetime.now(UTC)) - timedelta(hours=48):
        return hour(moment), 3_600
    return minute(moment), 60


def _execution(event_rows: Sequence[Row]) -> Row:
    last = max(event_rows, key=lambda row: (row["created_at"], _last_words(row)))
    ends: dict[str, list[datetime]] = defaultdict(list)
    playbooks: list[tuple[int, datetime, bytes, bytes]] = []
    for row in event_rows:
        begins = row["event_type"] in LIFECYCLE["begins"]
        outcome = _lifecycle_outcome(row)
        if outcome is not None:
            ends[outcome].append(row["created_at"])
        path, version = _named_by(row) if begins else ("", "")
        if path:
            playbooks.append((0, row["created_at"], *_named(path, version)))
        elif (begins or outcome is not None) and row["step"]:
            playbooks.append((1, row["created_at"], *_named(row["step"], "")))
    first_ends = {outcome: min(moments) for outcome, moments in ends.items()}
    worst_first = [word for word in ("FAILED", "CANCELLED", "COMPLETED") if word in first_ends]
    status = min(worst_first, key=lambda word: first_ends[word]) if worst_first else "RUNNING"
    activity = [row["created_at"] for row in event_rows if _is_activity(row)]
    playbook, version = (word.decode() for word in min(playbooks)[2:]) if playbooks else ("", "")
    return {
        "execution_id": event_rows[0]["execution_id"],
        "playbook": playbook,
        "version": version or None,
        "status": status,
        "catalog_id": _least(row["catalog_id"] for row in event_rows),
        "parent_execution_id": _least(row["parent_execution_id"] for row in event_rows),
        "first_at": min(row["created_at"] for row in event_rows),
        "begun_at": _least(
            row["created_at"] for row in event_rows if row["event_type"] in LIFECYCLE["begins"]
        ),
        "last_at": last["created_at"],
        "ended_at": first_ends.get(status),
        "events": len(event_rows),
        "highest_attempts": max(row["attempts"] for row in event_rows),
        "counts": tuple(len(ends[word]) for word in ("COMPLETED", "FAILED", "CANCELLED")),
        "firsts": tuple(first_ends.get(word) for word in ("COMPLETED", "FAILED", "CANCELLED")),
        "contradicting": len(first_ends) > 1,
        "active_at": max(activity, default=None),
        "last_event_type": last["event_type"],
        "last_step": last["step"],
    }


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


def _named_by(row: Row) -> tuple[str, str]:
    """The path and version of the playbook that a beginning names; the path is "" if none.

    Source: docs/spec/wire-shapes.md#k4.
    """
    for context in _contexts(row):
        if isinstance(path := context.get("path"), str) and path:
            version = context.get("version")
            return path, version if isinstance(version, str) else _spelled(version)
    return "", ""


def _calls(event_rows: Sequence[Row]) -> Iterator[Row]:
    """The tries of every command of one execution."""
    commands: dict[str, list[Row]] = defaultdict(list)
    for row in event_rows:
        if _role(row) and row["command_id"]:
            commands[row["command_id"]].append(row)
    tries: list[Row] = []
    for command_id, rows in commands.items():
        by_try: dict[int, list[Row]] = defaultdict(list)
        for row, attempts in zip(rows, tries_of(list(map(call_event, rows))), strict=True):
            by_try[attempts].append(row)
        tries += [_try(command_id, attempts, events) for attempts, events in by_try.items()]
    for one in tries:
        before = [failure["finished_at"] for failure in tries if _goes_before(failure, one)]
        one["failed_before"] = max(before, default=None)
    yield from tries


def _role(row: Row) -> str:
    kind = row["event_type"]
    marks = [mark for mark, kinds in CALL_MARKS.items() if kind in kinds]
    return marks[0].removesuffix("_at") if marks else "ended" if kind in CALL_ENDS else ""


def call_event(row: Row) -> CallEvent:
    """An event of a call, as tries are folded from it."""
    kind: str = row["event_type"]
    return CallEvent(
        at=(row["created_at"] - _EPOCH) // timedelta(microseconds=1),
        role=_role(row),
        number=row["attempts"] if row["evidence"] >= 100 else None,
        end=END_CLASSES.get(kind, kind) if kind in CALL_ENDS and not _is_parked(row) else "",
    )


def _try(command_id: str, attempts: int, rows: Sequence[Row]) -> Row:
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


def hands_over(row: Row) -> bool:
    """Whether the row's context, or that of its result, hands its call over to a callback.

    Source: docs/spec/wire-shapes.md#s15.
    """
    return any(context.get("pending_callback") is True for context in _contexts(row))


def _spelled(version: Any) -> str:
    return "" if version is None else json.dumps(version, ensure_ascii=False)


def _contexts(row: Row) -> list[dict[str, Any]]:
    """The row's context, and that of its result, where a server keeps what a client sent."""
    result = row["result"]
    contexts = (row["context"], result.get("context") if isinstance(result, dict) else None)
    return [one for one in contexts if isinstance(one, dict)]


def _is_parked(row: Row) -> bool:
    return CALL_ENDS[row["event_type"]] == (1, "COMPLETED") and hands_over(row)


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
    _, moment, what = min(found, key=lambda one: (*one[:2], _rank(one[2]), _bytes(one[2])))
    return moment, what


def _rank(value: Any) -> int:
    """Of two outcomes at one instant the worse counts; other values by their bytes."""
    return WORST_FIRST.index(value) if value in WORST_FIRST else 0


def _goes_before(failure: Row, retry: Row) -> bool:
    if failure["attempts"] != retry["attempts"] - 1 or failure["status"] in (None, "COMPLETED"):
        return False
    if failure["finished_at"] > retry["begun_at"]:
        return False
    same_command: bool = failure["command_id"] == retry["command_id"]
    same_step = failure["step"] != "" and failure["step"] == retry["step"]
    return same_command or (same_step and failure["iteration"] == retry["iteration"])


def _of_events(rows: Sequence[Row]) -> dict[str, ViewRows]:
    minutes: Counter[Any] = Counter()
    hours: Counter[Any] = Counter()
    without_command: Counter[Any] = Counter()
    arrivals: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    unsaid: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    coercions: Counter[Any] = Counter()
    for row in rows:
        created_at, what = row["created_at"], (row["status"], row["attempts"])
        minutes[*_bucket_of(created_at), row["event_type"], *what] += 1
        hours[hour(created_at), row["step"], row["event_type"], *what] += 1
        if _role(row) and not row["command_id"]:
            without_command[hour(created_at), row["step"], row["event_type"], row["status"]] += 1
        arrived = hour(row["recorded_at"] or created_at)
        lateness = _lateness(created_at, row["recorded_at"])
        on_time = lateness in ("unknown", "under 1 s")
        counts = arrivals[arrived, row["shape"], row["worker_id"] or "", lateness, on_time]
        counts[0] += 1
        if not on_time:
            counts[1] += (row["recorded_at"] - created_at) // timedelta(microseconds=1)
        evidence = row["evidence"]
        defaulted = (evidence // 100 == 0, evidence // 10 % 10 == 0, evidence % 10 == 0)
        sums = unsaid[arrived, row["shape"]]
        sums[:] = [a + b for a, b in zip(sums, (1, *defaulted), strict=True)]
        for coercion in row["coercions"] or ():
            coercions[arrived, row["shape"], coercion["rule"]] += 1
    return {
        "attempts_by_status": _counted(minutes),
        "event_counts": _counted(hours),
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


def _of_executions(executions: Sequence[Row], calls: Sequence[Row]) -> dict[str, ViewRows]:
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
            active, one["last_event_type"], one["last_step"], 0,
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


def _of_calls(calls: Sequence[Row]) -> dict[str, ViewRows]:
    finished = [call for call in calls if call["finished_at"]]
    views: dict[str, ViewRows] = {"calls": [], "open_calls": [], "attempts_in_order": []}
    for call in calls:
        views["calls"].append(_call_row(call))
        if not call["finished_at"]:
            views["open_calls"].append(_open_row(call))
    outcomes: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    minutes: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    workers: dict[Any, list[Row]] = defaultdict(list)
    errors: Counter[Any] = Counter()
    times: Counter[Any] = Counter()
    for call in finished:
        at, step, status = hour(call["finished_at"]), call["step"], call["status"]
        attempts, failed = call["attempts"], status != "COMPLETED"
        key = (call["playbook"], step, attempts, status)
        counts = outcomes[at, *key]
        for n, one in enumerate((True, not failed, failed, _is_exhausted(call))):
            counts[n] += one
        minutes[minute(call["finished_at"]), step][attempts > 0] += 1
        workers[at, call["worker_id"] or ""].append(call)
        if failed:
            errors[at, step, attempts, status, _error_class(call["error"] or "")] += 1
        measured = {
            "duration": call["duration_us"],
            "queue": call["queue_us"],
            "backoff": _between(call["failed_before"], call["begun_at"]),
        }
        for measure, microseconds in measured.items():
            if microseconds is not None:
                times[at, measure, *key, _bucket(microseconds)] += 1
    views["call_outcomes_by_attempt"] = [(*key, *counts) for key, counts in outcomes.items()]
    views["call_time_histogram"] = _counted(times)
    views["failures_by_error"] = _counted(errors)
    views["error_groups"] = list(_error_groups(finished))
    views["failed_calls"] = list(_failed_calls(finished))
    views["worker_failures"] = [(*key, *_of_worker(done)) for key, done in workers.items()]
    views["retries_by_minute"] = [(*key, *counts) for key, counts in minutes.items()]
    views["attempts_in_order"] = list(_in_order(calls))
    views["loops"] = list(_loops(calls))
    return views


def _error_groups(finished: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for call in finished:
        if call["status"] != "COMPLETED":
            groups[_error_class(call["error"] or "")].append(call)
    for kind, calls in groups.items():
        times = [call["finished_at"] for call in calls]
        yield kind, min(times), max(times)


def _failed_calls(finished: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    for call in finished:
        if call["status"] != "COMPLETED":
            yield (
                hour(call["finished_at"]), call["finished_at"], _error_class(call["error"] or ""),
                call["error"], call["execution_id"], call["playbook"], call["step"],
                call["command_id"], call["attempts"], call["status"], call["worker_id"],
            )  # fmt: skip


def _call_row(call: Row) -> tuple[Any, ...]:
    duration_us = call["duration_us"]
    backoff_us = _between(call["failed_before"], call["begun_at"])
    return (
        hour(call["finished_at"] or call["begun_at"]), call["execution_id"],
        *(call[name] for name in _OF_EXECUTION), call["step"], call["command_id"],
        call["iteration"], call["attempts"], _state(call),
        call["begun_at"], call["issued_at"], call["claimed_at"], call["started_at"],
        call["finished_at"], _in_seconds(duration_us), _in_seconds(call["queue_us"]),
        _in_seconds(backoff_us), call["max_attempts"], _is_exhausted(call), call["worker_id"],
        call["error"],
        None if call["status"] in (None, "COMPLETED") else _error_class(call["error"] or ""),
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
        call["command_id"], call["iteration"], call["attempts"], call["begun_at"],
        call["worker_id"], waits_for, since,
    )  # fmt: skip


def _is_exhausted(call: Row) -> bool:
    return (
        call["status"] not in (None, "COMPLETED")
        and call["max_attempts"] is not None
        and call["attempts"] + 1 >= call["max_attempts"]
    )


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
        tries.sort(
            key=lambda call: (call["begun_at"], call["attempts"], _bytes(call["command_id"]))
        )
        for ordinal, call in enumerate(tries):
            yield (
                *key, ordinal, call["attempts"], call["command_id"], call["begun_at"],
                _state(call),
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


CODE: Final = re.compile(
    r"\b(?:http(?:/[0-9](?:\.[0-9])?)?|status[ _]?(?:code)?|code|error|exit|exited with|errno"
    r"|signal)[ :=#(]{0,3}[0-9]{1,3}(?![0-9a-z_])"
    r"|\b[45][0-9]{2}(?= (?:bad|conflict|forbidden|gateway|gone|internal|method|not|payload"
    r"|precondition|request|service|too|unauthorized|unprocessable)\b)",
    re.IGNORECASE | re.ASCII,
)


QUOTED: Final = re.compile(
    r"""
    " [^"]* ( " | \Z )
    | (?<! [0-9A-Za-z] ) [bru]? ' ( [^'] | ' (?= [0-9A-Za-z] ) )* ( ' | \Z )
    """,
    re.VERBOSE,
)


def _error_class(error: str) -> str:
    kind = QUOTED.sub("?", error[:400].replace("\x01", " "))
    parts, at = [], 0
    for code in CODE.finditer(kind):
        if code.start() >= at:
            parts += [_without_ids(kind[at : code.start()]), code[0]]
            at = code.end()
    kind = "".join([*parts, _without_ids(kind[at:])])
    kind = re.sub(r"#(?:[-._:/]?#)*(?:-[b-df-hj-np-tv-xz]{5}\b)?", "#", kind)
    return re.sub(r"\s+", " ", kind)[:120].strip(" ")


def _without_ids(text: str) -> str:
    return re.sub(r"[0-9A-Za-z]*[0-9][0-9A-Za-z]*", "#", text)


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


def _counted(counts: Counter[Any]) -> ViewRows:
    return [(*key, count) for key, count in counts.items() if count]


def _sort_key(row: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, str(value)) for value in row]
