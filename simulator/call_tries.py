"""Assigns each event of a command to a try: a plain fold, the oracle for the SQL.

A declared number is taken as it is. An event without one is assigned by its time.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class CallEvent(NamedTuple):
    """`at` in microseconds; `end` is its event type if it ends the call."""

    at: int
    role: str
    number: int | None = None
    end: str = ""


def tries_of(events: Sequence[CallEvent]) -> list[int]:
    """The try of each event of one command, in the order given."""
    begins = _begins(events)
    if not begins:
        return [0] * len(events)
    tries = [_try_at(event, begins) if event.number is None else event.number for event in events]
    for end in {event.end for event in events if event.end}:
        _move_earlier_ends(events, tries, end, sorted(begins))
    return tries


def _begins(events: Sequence[CallEvent]) -> dict[int, int]:
    """When each try begins, in the order of tries."""
    begins: dict[int, int] = {}
    before_ends: int | None = None
    for number in sorted({event.number for event in events if event.number is not None}):
        own = [event for event in events if event.number == number]
        issued = [event.at for event in own if event.role == "issued"]
        taken = [event.at for event in own if event.role in ("claimed", "started")]
        ended = [event.at for event in own if event.end]
        if number and not begins and (issued or taken):
            of_another = [
                event.at for event in events
                if event.number is None and event.at < min(issued or taken)
                and (event.role == "issued" if issued else event.end)
            ]  # fmt: skip
            if of_another:
                begins[number - 1] = min(of_another)
        if issued or taken:
            begins[number] = min(issued or taken)
            ended = ended or [
                event.at for event in events
                if event.number is None and event.end and event.at > begins[number]
            ]  # fmt: skip
        elif before_ends is not None:
            begins[number] = before_ends + 1
        else:
            begins[number] = min(event.at for event in own)
        before_ends = min(ended, default=None)
    return begins


def _try_at(event: CallEvent, begins: dict[int, int]) -> int:
    """The last try that began before an event, or at the same instant for a try's own event."""
    at = event.at + (event.role in ("claimed", "started"))
    begun = [(begin, number) for number, begin in begins.items() if begin < at]
    return max(begun)[1] if begun else min(begins)


def _move_earlier_ends(
    events: Sequence[CallEvent], tries: list[int], end: str, numbers: Sequence[int]
) -> None:
    """A try keeps one end of a type; earlier ones move to the try before it, if that has none."""
    for before, number in reversed(list(pairwise(numbers))):
        ends = [
            index for index, event in enumerate(events)
            if event.end == end and tries[index] == number
        ]  # fmt: skip
        if any(event.end == end and tries[n] == before for n, event in enumerate(events)):
            continue
        last = max((events[index].at for index in ends), default=0)
        for index in ends:
            if events[index].number is None and events[index].at < last:
                tries[index] = before
