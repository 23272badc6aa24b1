#!/usr/bin/env python3
"""Folds the events of a command into its calls, for engines that are not PostgreSQL.

PostgreSQL does the same in migrations/0006_create_call_triggers.sql. A property test holds this
fold against the plain one that also watches PostgreSQL. Only the standard library is used: the file
is copied to ClickHouse's user scripts and to Flink's workers as it is. As a program it answers
ClickHouse: a line with the events of one execution in, a line with its calls out.

Times are microseconds since 1970, durations microseconds.
"""

import json
import re
import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any, Final, NamedTuple

ROLES: Final = {
    "command.issued": ("issued", "", "command.issued"),
    "command_issued": ("issued", "", "command.issued"),
    "command.claimed": ("claimed", "", "command.claimed"),
    "command_claimed": ("claimed", "", "command.claimed"),
    "command.started": ("started", "", "command.started"),
    "action_started": ("started", "", "command.started"),
    "command_started": ("started", "", "command.started"),
    "command.completed": ("ended", "COMPLETED", "command.completed"),
    "action_completed": ("ended", "COMPLETED", "command.completed"),
    "command.failed": ("ended", "FAILED", "command.failed"),
    "action_failed": ("ended", "FAILED", "command.failed"),
    "command.timed_out": ("ended", "FAILED", "command.failed"),
    "command.timeout": ("ended", "FAILED", "command.failed"),
    "command.cancelled": ("ended", "CANCELLED", "command.cancelled"),
    "call.done": ("done", "COMPLETED", "call.done"),
    "action_done": ("done", "COMPLETED", "call.done"),
    "call_done": ("done", "COMPLETED", "call.done"),
    "call.error": ("done", "FAILED", "call.error"),
}
"""Type of an event of a call -> role, outcome that the name implies, class. Tests compare it
with projector.event_kinds."""

_WORST_FIRST: Final = ("FAILED", "ERROR", "CANCELLED", "COMPLETED")
_CLASSES: Final = {"FAILED": 0, "ERROR": 0, "CANCELLED": 1, "COMPLETED": 2}
"""Outcome -> its class. If the ends of an attempt disagree, the lowest class decides."""
_LONGEST_US: Final = 2_592_000_000_000
"""Thirty days: what a call cannot last is no duration."""

_PART: Final = re.compile(
    r"[^\x01-\x20@\"<>()\[\]{},;:=#|/\\?]+@(?:[0-9a-z-]+[.])+[a-z]{2,}"
    r"|(\b(?:http(?:/[0-9](?:[.][0-9])?)?|status[ _]?(?:code)?|code|error|exit|exited with|errno"
    r"|signal)[ :=#(]{0,3}[0-9]{1,3}(?![0-9a-z_])"
    r"|\b[45][0-9]{2}(?= (?:bad|conflict|forbidden|gateway|gone|internal|method|not|payload"
    r"|precondition|request|service|too|unauthorized|unprocessable)\b))"
    r"|[0-9a-z]*[0-9][0-9a-z]*|(?<![0-9a-z])[a-f]{8,}(?![0-9a-z])",
    re.IGNORECASE | re.ASCII,
)
"""An e-mail address, a code (its group), an id, or hex without a digit."""
_QUOTED: Final = re.compile(
    r"\"[^\"]*(?:\"|\Z)|(?<![0-9A-Za-z])[bru]?'(?:[^']|'(?=[0-9A-Za-z]))*(?:'|\Z)"
)
_JOINED_IDS: Final = re.compile(r"#(?:[-._:/]?#)*(?:-[b-df-hj-np-tv-xz]{5}\b)?")


class CallEvent(NamedTuple):
    """An event of a call. number: the attempts it declares; None if they were defaulted.

    call_index counts the calls that one command makes in one attempt, for example the tasks of a
    sequence.
    """

    event_type: str
    at_us: int
    number: int | None
    status: str
    step: str | None = None
    max_attempts: int | None = None
    duration_s: float | None = None
    error: str | None = None
    pending_callback: bool = False
    call_index: int = 0

    @property
    def role(self) -> str:
        """What it says about the call."""
        return ROLES[self.event_type][0]

    @property
    def outcome(self) -> str:
        """How the call ended, if this is an end."""
        return self.status if self.status in _WORST_FIRST else ROLES[self.event_type][1]

    @property
    def end_class(self) -> str:
        """The class of its type if it ends the call, else an empty text."""
        role, outcome, event_class = ROLES[self.event_type]
        handed_over = role == "ended" and outcome == "COMPLETED" and self.pending_callback
        return event_class if role in {"ended", "done"} and not handed_over else ""

    @property
    def nth_call(self) -> int:
        """Which call of its command this is an end of: only calls count themselves."""
        return self.call_index if self.role == "done" else 0

    @property
    def end_rank(self) -> tuple[int, int, int, int]:
        """The end with the lowest rank decides how an attempt ended.

        A failure comes before a cancellation, and that before a completion. In one of these
        classes the call's own report comes before its command's, then the earlier before the
        later, then FAILED before ERROR.
        """
        by_command = int(self.role != "done")
        return (
            _CLASSES[self.outcome], by_command, self.at_us, _WORST_FIRST.index(self.outcome)
        )  # fmt: skip


class Call(NamedTuple):
    """One attempt of a command. status and finished_us are None while it runs."""

    attempts: int
    step: str
    status: str | None
    error: str | None
    error_class: str | None
    begun_us: int
    issued_us: int | None
    claimed_us: int | None
    started_us: int | None
    finished_us: int | None
    duration_us: int | None
    queue_us: int | None
    exhausted: bool


def calls_of_command(events: Sequence[CallEvent]) -> list[Call]:
    """The attempts of one command, from all its events, in any order."""
    by_attempt: dict[int, list[CallEvent]] = defaultdict(list)
    for event, attempts in zip(events, attempts_of(events), strict=True):
        by_attempt[attempts].append(event)
    return [call_of_attempt(attempts, by_attempt[attempts]) for attempts in sorted(by_attempt)]


def attempts_of(events: Sequence[CallEvent]) -> list[int]:
    """The attempt of each event of one command, by its number or else by its time."""
    begins = _begins(events)
    if not begins:
        return [0] * len(events)
    moments = sorted((begin, number) for number, begin in begins.items())
    found = []
    for event in events:
        # A claim or start also belongs to the attempt that begins at its instant.
        at = event.at_us + (event.role in {"claimed", "started"})
        begun = bisect_left(moments, (at, 0))
        by_time = moments[begun - 1][1] if begun else min(begins)
        found.append(by_time if event.number is None else event.number)
    ends: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        if event.end_class:
            ends[event.end_class, event.nth_call].append(index)
    for alike in ends.values():
        _move_earlier_ends(events, found, alike, sorted(begins))
    return found


def _begins(events: Sequence[CallEvent]) -> dict[int, int]:
    """When each attempt began. Empty if no event has a number."""
    numbered: dict[int, list[CallEvent]] = defaultdict(list)
    unnumbered: list[CallEvent] = []
    for event in events:
        (unnumbered if event.number is None else numbered[event.number]).append(event)
    ends = sorted(_ends_of_attempts(unnumbered))
    begins: dict[int, int] = {}
    end_before: int | None = None
    for number, own in sorted(numbered.items()):
        issued = [event.at_us for event in own if event.role == "issued"]
        taken = [event.at_us for event in own if event.role in {"claimed", "started"}]
        ended = _ends_of_attempts(own)
        begun = min(issued or taken, default=None)
        if begun is not None:
            if number and not begins:
                signs = [
                    event.at_us
                    for event in unnumbered
                    if event.at_us < begun
                    and (event.role == "issued" if issued else event.end_class)
                ]
                if signs:
                    begins[number - 1] = min(signs)
            begins[number] = begun
            after = bisect_right(ends, begun)
            ended = ended or ends[after : after + 1]
        elif end_before is not None:
            begins[number] = end_before + 1
        else:
            begins[number] = min(event.at_us for event in own)
        end_before = min(ended, default=None)
    return begins


def _ends_of_attempts(events: Sequence[CallEvent]) -> list[int]:
    """When these events may end an attempt.

    An end that is followed by one with a greater call_index ends none: the next call of the
    attempt comes after it.
    """
    ends = sorted(
        (event for event in events if event.end_class),
        key=lambda end: (end.role, end.at_us, end.nth_call),
    )
    return [
        end.at_us
        for end, after in zip_longest(ends, ends[1:])
        if after is None or after.role != end.role or after.nth_call <= end.nth_call
    ]


def _move_earlier_ends(
    events: Sequence[CallEvent], attempts: list[int], alike: list[int], numbers: Sequence[int]
) -> None:
    """Move earlier ones of several ends that are alike to the attempt before, if it has none.

    `alike` are indexes of ends of one class and call_index: an attempt has one of them.
    """
    ends: dict[int, list[int]] = defaultdict(list)
    for index in alike:
        ends[attempts[index]].append(index)
    for before, number in reversed(list(pairwise(numbers))):
        if ends[before]:
            continue
        last = max((events[index].at_us for index in ends[number]), default=0)
        for index in ends[number]:
            if events[index].number is None and events[index].at_us < last:
                attempts[index] = before
                ends[before].append(index)


def call_of_attempt(attempts: int, events: Sequence[CallEvent]) -> Call:
    """One attempt, from all its events."""
    ends = sorted((event for event in events if event.end_class), key=lambda end: end.end_rank)
    finished_us, status = (ends[0].at_us, ends[0].outcome) if ends else (None, None)
    issued_us, claimed_us, started_us = (
        min((event.at_us for event in events if event.role == role), default=None)
        for role in ("issued", "claimed", "started")
    )
    reported_us = _first(
        (end.role != "done", end.at_us, _microseconds(end.duration_s)) for end in ends
    )
    failures = [end for end in ends if end.outcome != "COMPLETED"]
    error = _first((*end.end_rank, (end.error or "")[:1000] or None) for end in failures)
    limit = _first((event.at_us, event.max_attempts) for event in events)
    return Call(
        attempts=attempts,
        step=_first((event.at_us, event.step or None) for event in events) or "",
        status=status,
        error=error,
        error_class=error_class_of(error or "") if failures else None,
        begun_us=min(event.at_us for event in events),
        issued_us=issued_us,
        claimed_us=claimed_us,
        started_us=started_us,
        finished_us=finished_us,
        duration_us=(_between(started_us, finished_us) if reported_us is None else reported_us),
        queue_us=_between(issued_us, claimed_us),
        exhausted=bool(failures) and limit is not None and attempts + 1 >= limit,
    )


def _first(candidates: Iterable[tuple[Any, ...]]) -> Any:
    """The last member of the least tuple; text compares by its bytes; None is no candidate."""
    found = [
        (*rank, value.encode() if isinstance(value, str) else value)
        for *rank, value in candidates
        if value is not None
    ]
    if not found:
        return None
    value = min(found)[-1]
    return value.decode() if isinstance(value, bytes) else value


def _microseconds(seconds: float | None) -> int | None:
    if seconds is None or not 0 <= seconds * 1_000_000 <= _LONGEST_US:
        return None
    return round(seconds * 1_000_000)


def _between(earlier_us: int | None, later_us: int | None) -> int | None:
    if earlier_us is None or later_us is None or later_us < earlier_us:
        return None
    return later_us - earlier_us


def error_class_of(error: str) -> str:
    """An error text without quoted parts, e-mail addresses and ids; codes stay."""
    text = _QUOTED.sub("?", error[:400].replace("\x01", " "))
    text = _JOINED_IDS.sub("#", _PART.sub(lambda part: part[1] or "#", text))
    return re.sub("[ \t-\r]+", " ", text)[:120].strip(" ")


def failures_before(calls: Sequence[tuple[str, int | None, Call]]) -> list[int | None]:
    """When the failure before each attempt ended; None if there is none.

    `calls` are those of one execution: command_id, iteration, call. A failure before has one
    attempt less, the same command or the same step and iteration, and ended before the retry began.
    """
    ended: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for command_id, iteration, call in calls:
        if call.finished_us is not None and call.status != "COMPLETED":
            for key in _keys(command_id, iteration, call, call.attempts):
                ended[key].append(call.finished_us)
    for ascending in ended.values():
        ascending.sort()
    found = []
    for command_id, iteration, call in calls:
        keys = _keys(command_id, iteration, call, call.attempts - 1)
        moments = [ended[key] for key in keys if key in ended]
        places = [bisect_right(ascending, call.begun_us) for ascending in moments]
        last = [ascending[n - 1] for ascending, n in zip(moments, places, strict=True) if n]
        found.append(max(last, default=None))
    return found


def _keys(
    command_id: str, iteration: int | None, call: Call, attempts: int
) -> list[tuple[Any, ...]]:
    keys: list[tuple[Any, ...]] = [("command", command_id, attempts)]
    return [*keys, ("step", call.step, iteration, attempts)] if call.step else keys


def iteration_of(command_id: str) -> int | None:
    """The iteration of a loop, which a command_id ends with.

    Source: docs/spec/wire-shapes.md#k2.
    """
    found = re.search(r":i([0-9]{1,10})\Z", command_id)
    number = int(found[1]) if found else -1
    return number if 0 <= number < 2**31 else None


def execution_calls(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls of one execution, from the events of all its commands.

    An event has a command_id and the fields of CallEvent; a call has a command_id, the fields of
    Call, and `failed_us`, when the failure before it ended.
    """
    commands: dict[str, list[CallEvent]] = defaultdict(list)
    for event in events:
        fields = {name: value for name, value in event.items() if name != "command_id"}
        commands[event["command_id"]].append(CallEvent(**fields))
    calls = [
        (command_id, iteration_of(command_id), call)
        for command_id, reported in sorted(commands.items())
        for call in calls_of_command(reported)
    ]
    return [
        {"command_id": command_id, **call._asdict(), "failed_us": failed_us}
        for (command_id, _, call), failed_us in zip(calls, failures_before(calls), strict=True)
    ]


def main() -> None:
    """Answer ClickHouse line by line, until it closes the input."""
    for line in sys.stdin:
        [events] = json.loads(line)
        sys.stdout.write(json.dumps([execution_calls(events)], separators=(",", ":")) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
