#!/usr/bin/env python3
"""Folds the events of a command into its calls, for engines that are not PostgreSQL.

PostgreSQL does the same in migrations/functions/resolve_attempts.sql. A property test holds this
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
from itertools import accumulate, count, islice, zip_longest
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
    sequence. place is where its record lies, for example "noetl.events:0:3:1042:0": topic,
    incarnation, partition, offset, and index. None if that tells nothing: the report came late, or
    another record reports the same event from elsewhere.
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
    place: str | None = None

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
    """One attempt of a command. status and finished_us are None while it runs.

    attribution says how its number is known. declared: the end that decides names it (or, while it
    runs, any event). only: nothing hints at another attempt of the command. inferred: by
    resolve_attempts.
    """

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
    attribution: str


def calls_of_command(events: Sequence[CallEvent]) -> list[Call]:
    """The attempts of one command, from all its events, in any order."""
    by_attempt: dict[int, list[CallEvent]] = defaultdict(list)
    for event, attempts in zip(events, resolve_attempts(events), strict=True):
        by_attempt[attempts].append(event)
    retried = is_retried(events)
    return [
        call_of_attempt(attempts, by_attempt[attempts], retried=retried)
        for attempts in sorted(by_attempt)
    ]


def is_retried(events: Iterable[CallEvent]) -> bool:
    """Whether anything hints at a second attempt: a number, or two issues, claims, or starts."""
    times = {(event.role, event.at_us) for event in events if not event.end_class}
    roles = [role for role, _ in times if role in {"issued", "claimed", "started"}]
    return len(roles) > len(set(roles)) or any(event.number for event in events)


class _Moment(NamedTuple):
    """When something happened: by its producer's clock, and in the log if its place tells."""

    at_us: int
    in_log: tuple[int, int] | None = None

    @property
    def rank(self) -> tuple[int, bool, tuple[int, ...]]:
        """Of reports of one time, the one that came first is the first."""
        return self.at_us, self.in_log is None, self.in_log or ()


def resolve_attempts(events: Sequence[CallEvent]) -> list[int]:
    """The attempt of each event of one command, in any order.

    R1. An attempt is known by a number, or by an issue of its own: an issue without a number is of
        the lowest attempt that nobody names.
    R2. An attempt begins with its numbered issue, else with its first numbered claim or start, else
        with its issue without a number, else just after the attempt before it has ended. If its
        issue came late, so that the log has its second claim or start first, after the end of the
        attempt before, it begins with these.
    R3. An event without a number is of the last attempt that had begun before it. Their places in
        the log tell what came first, or else their clocks. An end without a place, where others
        have one, is rather of the last attempt that has neither an end in the log nor a numbered
        one, and whose claim or start came before it by the clocks.
    R4. An attempt has one end of its call (of each call_index), and one of its command. If several
        without a number fall into it, the earlier ones go to attempts before it that have none, or
        else the later ones to attempts after it.
    R5. Where an event has no place, or an attempt before the last has no end, the kinds of the ends
        may tell more, in the order of the clocks. An end is of the next attempt if it comes after
        an end of the command, or of the same call or a later one. An end of the command is also of
        the next attempt if it comes after a claim or a start, or if it completes the command after
        a failed call. If that makes one group of ends for each attempt, the groups are of the
        attempts in this order.
    A completion is the last of several ends or groups, because only failures are retried.
    """
    moments = _moments(events)
    numbers = _numbers(events)
    issues = _issues_by_attempt(events, moments, numbers)
    by_issue = {moment.at_us: number for number, moment in issues.items()}
    begins = _begins(events, moments, numbers, issues)
    positions = _Positions(numbers, _begins_by_turn(events, moments, begins))
    found = []
    for event, moment in zip(events, moments, strict=True):
        if event.number is not None:
            found.append(event.number)
        elif event.role == "issued" and moment.at_us in by_issue:
            found.append(by_issue[moment.at_us])
        else:
            found.append(positions.find(moment, or_at=not event.end_class))
    if any(moment.in_log for moment in moments):
        found = _place_late_ends(events, moments, numbers, found)
    slots: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        if event.end_class:
            slots[event.role, event.nth_call].append(index)
    for ends in slots.values():
        _spread(events, found, ends, numbers)
    ended = {number for event, number in zip(events, found, strict=True) if event.end_class}
    if all(moment.in_log for moment in moments) and ended.issuperset(numbers[:-1]):
        return found
    by_group = _attempts_of_groups(events, numbers)
    return [by_group.get(index, number) for index, number in enumerate(found)]


def _moments(events: Sequence[CallEvent]) -> list[_Moment]:
    """When each event happened. Places count only if they are all in one log."""
    places = [event.place and event.place.rsplit(":", 2) for event in events]
    if len({place[0] for place in places if place}) > 1:
        places = [None] * len(events)
    return [
        _Moment(event.at_us, (int(place[1]), int(place[2])) if place else None)
        for event, place in zip(events, places, strict=True)
    ]


def _numbers(events: Sequence[CallEvent]) -> list[int]:
    """The attempts of a command, in order."""
    declared = {event.number for event in events if event.number is not None}
    issued = {event.number for event in events if event.role == "issued"} - {None}
    further = len(_unnumbered_issues(events)) - len(declared - issued)
    free = (number for number in count() if number not in declared)
    # If issues are numbered, one without a number is not of the last attempt.
    below = max(declared) if issued else sys.maxsize
    found = declared | {number for number in islice(free, max(further, 0)) if number < below}
    first = min(found, default=0)
    taken_us = [
        event.at_us
        for event in events
        if event.number == first and event.role in {"claimed", "started"}
    ]
    if first and first not in issued and taken_us:
        # A worker that numbers only retries reported the end of the attempt before them.
        before = min(taken_us)
        if any(e.number is None and e.end_class and e.at_us < before for e in events):
            found.add(first - 1)
    return sorted(found or {0})


def _unnumbered_issues(events: Sequence[CallEvent]) -> set[int]:
    """When an attempt was issued that no issue of the same time names."""
    times: dict[bool, set[int]] = {True: set(), False: set()}
    for event in events:
        if event.role == "issued":
            times[event.number is None].add(event.at_us)
    return times[True] - times[False]


def _issues_by_attempt(
    events: Sequence[CallEvent], moments: Sequence[_Moment], numbers: Sequence[int]
) -> dict[int, _Moment]:
    """The issues without a number, in order, of the attempts without a numbered issue.

    None if there are fewer of them than of these attempts: which ones are missing, nobody knows.
    """
    times = _unnumbered_issues(events)
    issues: dict[int, _Moment] = {}
    for event, moment in zip(events, moments, strict=True):
        if event.role == "issued" and event.number is None and event.at_us in times:
            known = issues.get(event.at_us, moment)
            issues[event.at_us] = min(known, moment, key=lambda one: one.rank)
    have_places = all(moment.in_log for moment in issues.values())
    ordered = sorted(
        issues.values(), key=lambda one: ((have_places and one.in_log) or (), one.rank)
    )
    issued = {event.number for event in events if event.role == "issued"}
    lacking = [number for number in numbers if number not in issued]
    return dict(zip(lacking, ordered, strict=False)) if len(ordered) >= len(lacking) else {}


def _begins(
    events: Sequence[CallEvent],
    moments: Sequence[_Moment],
    numbers: Sequence[int],
    issues: Mapping[int, _Moment],
) -> list[_Moment]:
    """When each attempt but the first began."""
    own: dict[int | None, list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        own[event.number].append(index)
    ends = _ends_of_attempts([events[index] for index in own[None]])
    begins: list[_Moment] = []
    end_before = ends[0] if ends else None
    for number in numbers:
        said = own[number]
        begun = (
            _first_moment(moments[index] for index in said if events[index].role == "issued")
            or _first_moment(
                moments[index] for index in said if events[index].role in {"claimed", "started"}
            )
            or issues.get(number)
        )
        if number != numbers[0]:
            after_end = None if end_before is None else _Moment(end_before + 1)
            first_us = min((events[index].at_us for index in said), default=0)
            begins.append(begun or after_end or _Moment(first_us))
            after = bisect_right(ends, begun.at_us) if begun else len(ends)
            end_before = ends[after] if after < len(ends) else None
        end_before = next(iter(_ends_of_attempts([events[index] for index in said])), end_before)
    return begins


def _first_moment(moments: Iterable[_Moment]) -> _Moment | None:
    return min(moments, key=lambda one: one.rank, default=None)


def _ends_of_attempts(events: Sequence[CallEvent]) -> list[int]:
    """When these events may end an attempt, in order."""
    ends = ((event.role, event.at_us, event.nth_call) for event in events if event.end_class)
    return sorted(at_us for _, at_us, _ in _without_next_call(ends))


def _without_next_call(ends: Iterable[tuple[str, Any, int]]) -> set[tuple[str, Any, int]]:
    """The ends that may end an attempt.

    An end that one with a greater call_index follows does not: the next call of the attempt comes
    after it.
    """
    ordered = sorted(set(ends))
    return {
        end
        for end, after in zip_longest(ordered, ordered[1:])
        if after is None or after[0] != end[0] or after[2] <= end[2]
    }


def _begins_by_turn(
    events: Sequence[CallEvent], moments: Sequence[_Moment], begins: Sequence[_Moment]
) -> list[_Moment]:
    """When each attempt but the first began, also if the record that says so came late.

    A turn in the log is a claim or a start that comes next after the end of an attempt, and is not
    the first one since the last attempt began. The next attempt has begun by then. An event that is
    sent twice counts where it comes first.
    """
    first: dict[tuple[str, int, int], tuple[int, int]] = {}
    for event, moment in zip(events, moments, strict=True):
        if moment.in_log and (event.end_class or event.role in {"claimed", "started"}):
            key = event.role, event.at_us, event.nth_call
            first[key] = min(first.get(key, moment.in_log), moment.in_log)
    ended = _without_next_call(
        (role, in_log, nth) for (role, _, nth), in_log in first.items() if role in {"done", "ended"}
    )
    steps = [
        (in_log, 0, role, (role, in_log, nth) in ended) for (role, _, nth), in_log in first.items()
    ]
    steps += [(begin.in_log, nth, "", False) for nth, begin in enumerate(begins, 1) if begin.in_log]
    steps.sort(key=lambda step: (step[0], -step[1]))
    next_begun = list(accumulate((step[1] or len(begins) for step in reversed(steps)), min))
    found = list(begins)
    begun, seen, has_ended = 0, set[str](), False
    for (in_log, nth, role, ends), most in zip(steps, reversed(next_begun), strict=True):
        if nth:
            begun, seen = max(begun, nth), set()
        elif has_ended and role in seen and begun < most:
            found[begun] = found[begun]._replace(in_log=in_log)
            begun += 1
        if role in {"claimed", "started"}:
            seen.add(role)
        has_ended = ends
    return found


class _Positions:
    """Finds the last attempt that had begun before a moment."""

    def __init__(self, numbers: Sequence[int], begins: Sequence[_Moment]) -> None:
        self._numbers = numbers
        nths = list(enumerate(begins, start=1))
        self._all = _Steps((begin.at_us, nth) for nth, begin in nths)
        self._in_log = _Steps((begin.in_log, nth) for nth, begin in nths if begin.in_log)
        self._others = _Steps((begin.at_us, nth) for nth, begin in nths if not begin.in_log)

    def find(self, moment: _Moment, *, or_at: bool) -> int:
        """The attempt. or_at: also if it began at the same instant by the clocks."""
        at_us = moment.at_us + or_at
        if moment.in_log:
            offset, index = moment.in_log
            nth = max(self._in_log.below((offset, index + 1)), self._others.below(at_us))
        else:
            nth = self._all.below(at_us)
        return self._numbers[nth]


class _Steps:
    """The greatest number of those that stand below a key."""

    def __init__(self, steps: Iterable[tuple[Any, int]]) -> None:
        ascending = sorted(steps)
        self._keys = [key for key, _ in ascending]
        self._greatest = [0, *accumulate((nth for _, nth in ascending), max)]

    def below(self, key: Any) -> int:
        """0 if none does."""
        return self._greatest[bisect_left(self._keys, key)]


def _place_late_ends(
    events: Sequence[CallEvent],
    moments: Sequence[_Moment],
    numbers: Sequence[int],
    found: Sequence[int],
) -> list[int]:
    """The attempts of events: an end without a place may be the one that an attempt lacks.

    The same clock wrote the claim or the start of an attempt and its end.
    """
    ended = {
        attempts
        for event, moment, attempts in zip(events, moments, found, strict=True)
        if event.end_class and (moment.in_log or event.number is not None)
    }
    taken_us: dict[int, int] = {}
    for event, attempts in zip(events, found, strict=True):
        if event.role in {"claimed", "started"} and attempts not in ended:
            taken_us[attempts] = min(taken_us.get(attempts, event.at_us), event.at_us)
    lacking = _Steps(
        (taken_us[attempts], nth) for nth, attempts in enumerate(numbers, 1) if attempts in taken_us
    )
    placed = []
    for event, moment, attempts in zip(events, moments, found, strict=True):
        is_late = event.end_class and event.number is None and not moment.in_log
        nth = lacking.below(event.at_us + 1) if is_late else 0
        placed.append(numbers[nth - 1] if nth else attempts)
    return placed


def _attempts_of_groups(events: Sequence[CallEvent], numbers: Sequence[int]) -> dict[int, int]:
    """The attempts of ends, by index. Empty if the ends make more groups than attempts, or fewer.

    A group with numbered ends is of the attempt that they name. It's also empty if one names two
    attempts, or if two name the same one.
    """
    groups = _groups_of_ends(events)
    named = [
        {number for index in group if (number := events[index].number) is not None}
        for group in groups
    ]
    names = {number for some in named for number in some}
    if len(groups) != len(numbers) or not (
        len(names) == sum(map(bool, named)) == sum(map(len, named))
    ):
        return {}
    free = [number for number in numbers if number not in names]
    unnamed = [group for group, some in zip(groups, named, strict=True) if not some]
    unnamed.sort(key=lambda group: all(events[i].outcome == "COMPLETED" for i in group))
    found = {index: number for number, group in zip(free, unnamed, strict=True) for index in group}
    for group, some in zip(groups, named, strict=True):
        found |= dict.fromkeys(group, min(some)) if some else {}
    return found


def _groups_of_ends(events: Sequence[CallEvent]) -> list[list[int]]:
    """The indexes of ends, in the order of their clocks, as far as they may be of one attempt."""
    reports: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        if event.end_class:
            worst_first = _CLASSES[event.outcome], _WORST_FIRST.index(event.outcome)
            by_command = event.role == "ended"
            key = (event.at_us, 1, by_command, event.nth_call, *worst_first, event.end_class)
            reports[key].append(index)
        elif event.role in {"claimed", "started"}:
            reports[event.at_us, 0].append(index)
    groups: list[list[int]] = []
    before: CallEvent | None = None
    is_taken = False
    for key in sorted(reports):
        event = events[reports[key][0]]
        if not event.end_class:
            is_taken = True
            continue
        if before is None or not _may_follow(event, before, is_taken=is_taken):
            groups.append([])
        groups[-1] += reports[key]
        before, is_taken = event, False
    return groups


def _may_follow(end: CallEvent, before: CallEvent, *, is_taken: bool) -> bool:
    """Whether both may be of one attempt. is_taken: a claim or a start lies between them."""
    if before.role == "ended":
        return False
    if end.role == "done":
        return end.nth_call > before.nth_call
    return not is_taken and (end.outcome != "COMPLETED" or before.outcome == "COMPLETED")


def _spread(
    events: Sequence[CallEvent], found: list[int], ends: Sequence[int], numbers: Sequence[int]
) -> None:
    """Give each attempt one of these ends at most. A number is never overruled.

    `ends` are indexes of ends of one role and call_index. An end that is sent twice, at one time,
    is one end.
    """
    reports: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for index in ends:
        event = events[index]
        reports[event.at_us, event.end_class, event.outcome].append(index)
    declared = {found[index] for index in ends if events[index].number is not None}
    free = [number for number in numbers if number not in declared]
    ranked = []
    for (at_us, end_class, outcome), same in reports.items():
        named = [found[index] for index in same if events[index].number is not None]
        unnamed = [index for index in same if events[index].number is None]
        if named or not free:
            for index in unnamed:
                found[index] = min(named, default=found[index])
        else:
            nth = max(bisect_right(free, min(found[index] for index in same)) - 1, 0)
            worst_first = (_CLASSES[outcome], at_us, _WORST_FIRST.index(outcome), end_class)
            ranked.append(((nth, *worst_first), unnamed))
    ranked.sort()
    least = len(free)
    surplus = max(len(ranked) - len(free), 0)
    for place, ((nth, *_), same) in reversed(list(enumerate(ranked))):
        least = min(least, nth - place)
        for index in same:
            found[index] = free[max(least + place, place - surplus, 0)]


def call_of_attempt(attempts: int, events: Sequence[CallEvent], *, retried: bool) -> Call:
    """One attempt, from all its events. retried: is_retried of its command."""
    ends = sorted(
        (event for event in events if event.end_class),
        key=lambda end: (end.end_rank, end.number is None),
    )
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
        error_class=classify_error(error or "") if failures else None,
        begun_us=min(event.at_us for event in events),
        issued_us=issued_us,
        claimed_us=claimed_us,
        started_us=started_us,
        finished_us=finished_us,
        duration_us=(_between(started_us, finished_us) if reported_us is None else reported_us),
        queue_us=_between(issued_us, claimed_us),
        exhausted=bool(failures) and limit is not None and attempts + 1 >= limit,
        attribution=(
            "declared"
            if any(event.number is not None for event in ends[:1] or events)
            else "inferred"
            if retried
            else "only"
        ),
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


def classify_error(error: str) -> str:
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


def parse_iteration(command_id: str) -> int | None:
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
        (command_id, parse_iteration(command_id), call)
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
