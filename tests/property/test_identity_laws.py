"""The laws of identity: how many rows the events of one id make, and which of them are a guess.

Order-free in number where every report names its step; in content where, besides, all reports of
a step name the command or none does. All else is marked `ambiguous_report`, in every order. (A
command belongs to one step: that is what a command is.)
"""

import asyncio
from collections.abc import Sequence
from itertools import permutations
from typing import Final

import msgspec
from hypothesis import given, settings, strategies as st

from normalizer.core.identity.merge_flags import (
    CHANGED_AFTER_STORING_FLAG,
    REPORTED_ELSEWHERE_FLAG,
    has_ambiguous_report,
)
from normalizer.envelope import Envelope, canonical_json
from tests.support.factories import envelope
from tests.support.memory_log import MemoryLog

_ID: Final = 5

Name = tuple[str, str | None]
"""The names of an event: its step and its command."""


@st.composite
def events(draw: st.DrawFn) -> list[Name]:
    """One to three events that are not the same: other commands, or other steps without one."""
    commands = draw(st.permutations(["x", "y", "z"]))
    names: list[Name] = []
    for number in range(draw(st.integers(1, 3))):
        step = draw(st.sampled_from(["a", "b", "c"]))
        command = draw(st.sampled_from([None, commands[number]]))
        # A step whose event has no command is that event.
        if any(step == other and None in (command, taken) for other, taken in names):
            continue
        names.append((step, command))
    return names


@st.composite
def reports(
    draw: st.DrawFn, *, named: bool = False, agreed: bool = False
) -> tuple[list[Name], list[Envelope]]:
    """Events and their reports, each report with a word of its own or that of another.

    `named`: every report names its step. `agreed`: and all of one step their command, or none.
    """
    names = draw(events())
    sent: list[Envelope] = []
    for step, command in names:
        for _ in range(draw(st.integers(1, 3))):
            says_step = named or agreed or draw(st.booleans())
            says_command = agreed or draw(st.booleans())
            sent.append(
                envelope(
                    len(sent),
                    event_id=_ID,
                    step=step if says_step else "",
                    command_id=command if says_command else None,
                    worker_id=draw(st.sampled_from([None, "v", "w"])),
                    error=draw(st.sampled_from([None, "e", "f"])),
                    context=draw(st.sampled_from([None, b"1", b'{"a":[1]}', b'{"a": [ 1 ]}'])),
                )
            )
    return names, sent


async def _rows(sent: Sequence[Envelope], cuts: set[int]) -> MemoryLog:
    log = MemoryLog()
    ends = [*sorted(cuts), len(sent)]
    for start, end in zip([0, *ends], ends, strict=False):
        await log.take(*sent[start:end])
    return log


def written(sent: Sequence[Envelope], cuts: set[int] = frozenset()) -> MemoryLog:  # type: ignore[assignment]
    """The rows of these reports in this order, the batches cut here."""
    return asyncio.run(_rows(sent, cuts))


def log_rows(log: MemoryLog) -> list[Envelope]:
    return list(log.rows_by_id.values())


def content(log: MemoryLog) -> set[str]:
    """Return the rows without the effects of order: ids, places, and the store's notes on these."""
    said = set()
    for row in log_rows(log):
        fields = msgspec.structs.asdict(row) | {
            "merge_flags": row.merge_flags
            & ~(CHANGED_AFTER_STORING_FLAG | REPORTED_ELSEWHERE_FLAG | 8)
        }
        for name in ("event_id", "source_offset", "recorded_at", "coercions"):
            del fields[name]
        for name in ("context", "extra"):
            fields[name] = fields[name] and canonical_json(fields[name])
        said.add(repr(fields))
    return said


@st.composite
def cuts(draw: st.DrawFn) -> set[int]:
    return draw(st.sets(st.integers(1, 9), max_size=3))


def orders(sent: list[Envelope], draw: st.DataObject) -> list[list[Envelope]]:
    """Every order of a few reports, else some."""
    if len(sent) <= 4:
        return [list(order) for order in permutations(sent)]
    return [sent, sent[::-1], *(draw.draw(st.permutations(sent)) for _ in range(6))]


@settings(max_examples=50)
@given(reports(named=True), cuts(), st.data())
def test_reports_that_name_their_step_make_as_many_rows_in_every_order(
    given_: tuple[list[Name], list[Envelope]], cuts: set[int], data: st.DataObject
) -> None:
    _, sent = given_
    steps = {one.step for one in sent}
    commands = [{one.command_id for one in sent if one.step == step} - {None} for step in steps]
    expected = sum(max(1, len(some)) for some in commands)

    for order in orders(sent, data):
        assert len(log_rows(written(order, cuts))) == expected


@settings(max_examples=50)
@given(reports(agreed=True), cuts(), st.data())
def test_reports_that_agree_on_naming_their_command_make_the_same_rows_in_every_order(
    given_: tuple[list[Name], list[Envelope]], cuts: set[int], data: st.DataObject
) -> None:
    names, sent = given_
    first = written(sent)

    assert len(log_rows(first)) == len(names)
    for order in orders(sent, data):
        assert content(written(order, cuts)) == content(first)


@settings(max_examples=50)
@given(reports(), cuts(), st.data())
def test_where_the_order_decides_a_row_says_so_in_every_order(
    given_: tuple[list[Name], list[Envelope]], cuts: set[int], data: st.DataObject
) -> None:
    _, sent = given_
    logs = [written(order, cuts) for order in orders(sent, data)]

    if len({frozenset(content(log)) for log in logs}) > 1:
        assert all(any(map(has_ambiguous_report, log_rows(log))) for log in logs)


@settings(max_examples=50)
@given(reports(), cuts(), st.data())
def test_a_copy_of_a_report_is_never_a_row_more(
    given_: tuple[list[Name], list[Envelope]], cuts: set[int], data: st.DataObject
) -> None:
    _, sent = given_
    log = written(sent, cuts)
    before = len(log_rows(log))
    again = data.draw(st.lists(st.sampled_from(sent), max_size=6))
    copies = [msgspec.structs.replace(one, source_offset=100 + at) for at, one in enumerate(again)]

    outcomes = asyncio.run(log.take(*sent))
    outcomes_of_copies = asyncio.run(log.take(*copies))

    assert outcomes == ["duplicate"] * len(sent)
    assert "stored" not in outcomes_of_copies
    assert len(log_rows(log)) == before
    if before == 1:
        assert set(outcomes_of_copies) <= {"duplicate"}


@settings(max_examples=50)
@given(reports(), cuts())
def test_a_row_is_marked_if_it_has_a_rival_and_a_report_of_it_lacks_a_name(
    given_: tuple[list[Name], list[Envelope]], cuts: set[int]
) -> None:
    _, sent = given_
    log = written(sent, cuts)
    lacking = any(one.step == "" or one.command_id is None for one in sent)

    if len(log_rows(log)) > 1 and lacking:
        assert any(map(has_ambiguous_report, log_rows(log)))
    if not lacking:
        assert not any(map(has_ambiguous_report, log_rows(log)))
