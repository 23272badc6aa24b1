"""A broken rule does not pass unseen: the core is broken in one place, and the comparison says so.

Each mutation is one misreading of the spec that a careful person might commit.
"""

# ruff: noqa: ARG001, ARG005 - a broken rule ignores what it is given

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from normalizer import snowflake
from normalizer.core import decode, levels, normalize, reconcile, wire_event
from normalizer.core.merge import merge
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules import (
    attempt_numbers,
    durations,
    identifiers,
    names,
    redaction,
    secret_patterns,
    status,
    timestamps,
)
from normalizer.core.wire_event import WireEvent
from normalizer.core.wire_values import ABSENT, RecordRefused
from simulator.ledger_file import Line
from simulator.mix import Mix
from tests.support.simulator_pipeline import compare_in_memory, simulated_log


def _top(event: WireEvent, name: str) -> Any:
    return msgspec.json.decode(event.fields[name]) if name in event.fields else None


def _only_the_execution(shared: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    return {name: value for name, value in shared.items() if name == "execution_id"}


Mutation = Callable[[pytest.MonkeyPatch], None]

_RICH = Mix(
    children=0.3,
    deployments={"layers": 4.0},
    in_flight=25,
    failing=0.3,
    poison=0.05,
    mutated=0.3,
    secrets=0.2,
    odd_text=0.1,
    headers=0.5,
    double_encoded=0.1,
    redelivered=0.1,
    reported_twice=0.5,
    disagreeing=0.5,
    colliding=0.05,
    late=0.05,
)


Play = tuple[list[RawRecord], list[Line]]


@pytest.fixture(scope="module")
def plays() -> tuple[Play, ...]:
    """A short one, in which most mutations show, and longer ones for the others."""
    richer = msgspec.structs.replace(_RICH, mutated=0.6, secrets=0.5, odd_text=0.4)
    return (
        simulated_log(_RICH, 11, 400),
        simulated_log(richer, 12, 900),
        simulated_log(_RICH, 11, 4_000),
    )


async def test_the_core_as_it_is_agrees(plays: tuple[Play, ...]) -> None:
    for play in plays:
        report = await compare_in_memory(*play, Normalizer().normalize)

        assert report.agrees, "\n".join(report.lines())


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """What a broken table once answered must not be heard again, nor before."""
    for remembering in (status._known_call_outcome, status._known_other_word):
        remembering.cache_clear()
    yield
    for remembering in (status._known_call_outcome, status._known_other_word):
        remembering.cache_clear()


def count_tries_from_one(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent) -> tuple[int, int]:
        number, rank = attempt_numbers.resolve_attempts(event)
        return number + (rank == 1), rank

    patch.setattr(normalize, "resolve_attempts", read)


def count_retries_as_tries(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent) -> tuple[int, int]:
        number, rank = attempt_numbers.resolve_attempts(event)
        return max(number - (rank == 2), 0), rank

    patch.setattr(normalize, "resolve_attempts", read)


def read_attempts_only_in_meta(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt_numbers, "_counted_from_one", lambda event: ())


def take_a_negative_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt_numbers, "_as_count", lambda value: value if type(value) is int else None)


def believe_the_declared_status(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(status, "_nested_outcomes", lambda nested: [])


def look_for_outcomes_one_level_deep(patch: pytest.MonkeyPatch) -> None:
    def read(nested: Any) -> list[str]:
        found = nested.payload.status
        outcome = status._call_outcome(found) if isinstance(found, str) else None
        return [] if outcome is None else [outcome]

    patch.setattr(status, "_nested_outcomes", read)


def call_a_timeout_a_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(status._CALL_OUTCOMES, "TIMEOUT", "FAILED")


def keep_running_on_what_has_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(status, "_WEAKER", frozenset())


def take_the_word_as_it_is(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(status, "_OTHER_WORDS", {})


def read_naive_times_as_local(patch: pytest.MonkeyPatch) -> None:
    of_text = timestamps._of_text

    def read(text: str) -> Any:
        naive = timestamps._TEXT.fullmatch(text) and not re.search(
            r"[Zz]$|[+-]\d\d:?\d*$", text[10:]
        )
        return of_text(text + "+02:00") if naive and len(text) > 10 else of_text(text)

    patch.setattr(timestamps, "_of_text", read)


def read_milliseconds_as_seconds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(timestamps, "_UNITS", ())


def trust_the_log_for_the_time(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent, event_id: Any, recorded: Any, *, in_log: bool) -> tuple[Any, int]:
        return recorded, 2

    patch.setattr(normalize, "resolve_created_at", read)


def ask_the_other_name_first(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent) -> str:
        name = _top(event, "name")
        return name if isinstance(name, str) else names.resolve_event_type(event)

    patch.setattr(normalize, "resolve_event_type", read)


def hash_with_another_function(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snowflake, "_hash", lambda text: int.from_bytes(sha256(text).digest()[:8], "big"))


def derive_ids_without_the_partition(patch: pytest.MonkeyPatch) -> None:
    def derive(
        topic: str,
        incarnation: int,
        partition: int,
        offset: int,
        index: int,
        ms: int,
        salt: int = 0,
    ) -> int:
        return snowflake.derive_id(topic, incarnation, 0, offset, index, ms, salt)

    patch.setattr(normalize, "derive_id", derive)


def know_one_id_layout(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snowflake, "_DOUBLED_MARK", -1)


def know_the_doubled_layout_by_its_mark_alone(patch: pytest.MonkeyPatch) -> None:
    read = snowflake._read
    patch.setattr(snowflake, "_read", lambda event_id, near_ms: read(event_id, None))


def refuse_leading_zeros(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(identifiers, "_DIGITS", re.compile("[1-9][0-9]{0,18}"))


def forget_the_step_in_the_command(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(names, "_step_of_command", lambda command_id: "")


def cut_the_step_at_its_first_colon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(names, "_STEP_OF_COMMAND", re.compile(r"[^:]+:([^:]+):.*"))


def take_unknown_for_a_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(names, "_NO_STEP", "")


def forget_the_loop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(normalize, "iteration_of", lambda command_id: None)


def read_the_worker_at_the_top_alone(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent) -> str | None:
        worker = _top(event, "worker_id")
        return str(worker) if worker else None

    patch.setattr(normalize, "resolve_worker_id", read)


def read_milliseconds_as_a_duration(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durations, "_seconds", lambda milliseconds: milliseconds)


def read_errors_at_the_top_alone(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent) -> Any:
        error = _top(event, "error")
        return error if isinstance(error, str) else None

    patch.setattr(normalize, "resolve_error", read)


def let_the_last_report_win(patch: pytest.MonkeyPatch) -> None:
    def join(stored: Any, report: Any, _: Any) -> Any:
        place = {
            name: getattr(stored, name)
            for name in ("source_partition", "source_offset", "source_index")
        }
        return msgspec.structs.replace(report, **place)

    patch.setattr(reconcile, "merge", join)


def take_one_id_for_one_event(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconcile, "match_strength", lambda *_: 3)


def give_items_of_a_batch_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(levels, "_inherited", lambda shared, own: _only_the_execution(shared))


def let_the_batch_overrule_its_items(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(levels, "_inherited", lambda shared, own: shared)


def leave_the_feed_wrapped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decode, "is_wrapper", lambda fields: False)


def leave_json_in_a_string(patch: pytest.MonkeyPatch) -> None:
    def refuse(reader: object, text: str) -> None:
        raise RecordRefused("not_an_event", "a string")

    patch.setattr(decode._RecordDecoder, "open_text", refuse)


def drop_what_nobody_knows(patch: pytest.MonkeyPatch) -> None:
    read = wire_event._layout

    def layout(names: tuple[str, ...]) -> wire_event.Layout:
        return msgspec.structs.replace(read(names), unread=())

    patch.setattr(wire_event, "_layout", layout)
    patch.setattr(wire_event, "_remembered_layout", layout)


def allow_any_depth(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decode, "EVENT_DEPTH", 10_000)
    patch.setattr(decode, "MAX_NESTING", 10_000)
    patch.setattr(levels, "EVENT_DEPTH", 10_000)


def keep_tokens(patch: pytest.MonkeyPatch) -> None:
    others = redaction._CONTENT.pattern.replace("token", "never")
    patch.setattr(redaction, "_CONTENT", re.compile(others))


def hide_authors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redaction, "_CONTENT", re.compile(f"{redaction._CONTENT.pattern}|auth"))


def keep_passwords_in_addresses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(secret_patterns, "_URL", re.compile(r"(never)matched"))


def ignore_a_bad_secondary_id(patch: pytest.MonkeyPatch) -> None:
    def read(event: WireEvent, name: str) -> int | None:
        value = _top(event, name)
        return value if type(value) is int else None

    patch.setattr(normalize, "resolve_secondary_id", read)


def forget_what_a_stored_row_keeps(patch: pytest.MonkeyPatch) -> None:
    read = wire_event._read_deep
    patch.setattr(
        wire_event,
        "_read_deep",
        lambda payload, result: read(payload, msgspec.structs.replace(result, context=ABSENT)),
    )


def forget_the_parent_in_the_context(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        normalize,
        "resolve_parent_execution_id",
        lambda event, event_type, own_id: identifiers.resolve_secondary_id(
            event, "parent_execution_id"
        ),
    )


def forget_what_gave_the_status(patch: pytest.MonkeyPatch) -> None:
    read = status.resolve_status
    patch.setattr(normalize, "resolve_status", lambda event, name: (read(event, name)[0], 0))


def keep_the_later_time_of_the_log(patch: pytest.MonkeyPatch) -> None:
    def join(stored: Any, report: Any, digests: Any) -> Any:
        later = max(stored.recorded_at, report.recorded_at)
        return msgspec.structs.replace(merge(stored, report, digests), recorded_at=later)

    patch.setattr(reconcile, "merge", join)


_SEEN_AS: dict[Mutation, str] = {
    count_tries_from_one: "differs in attempts",
    count_retries_as_tries: "differs in attempts",
    read_attempts_only_in_meta: "differs in attempts",
    take_a_negative_count: "differs in attempts",
    believe_the_declared_status: "differs in status",
    look_for_outcomes_one_level_deep: "differs in status",
    call_a_timeout_a_failure: "differs in status",
    keep_running_on_what_has_ended: "differs in status",
    take_the_word_as_it_is: "differs in status",
    read_naive_times_as_local: "differs in created_us",
    read_milliseconds_as_seconds: "differs in created_us",
    trust_the_log_for_the_time: "differs in created_us",
    ask_the_other_name_first: "differs in event_type",
    hash_with_another_function: "differs in event_id",
    derive_ids_without_the_partition: "differs in event_id",
    know_one_id_layout: "differs in created_us",
    know_the_doubled_layout_by_its_mark_alone: "differs in created_us",
    refuse_leading_zeros: "differs in event_id",
    forget_the_step_in_the_command: "differs in step",
    cut_the_step_at_its_first_colon: "differs in step",
    take_unknown_for_a_step: "differs in step",
    forget_the_loop: "differs in iteration",
    read_the_worker_at_the_top_alone: "differs in worker_id",
    read_milliseconds_as_a_duration: "differs in duration",
    read_errors_at_the_top_alone: "differs in error",
    let_the_last_report_win: "differs in result",
    take_one_id_for_one_event: "missing",
    give_items_of_a_batch_nothing: "differs in worker_id",
    let_the_batch_overrule_its_items: "differs in worker_id",
    leave_the_feed_wrapped: "refused, though nothing is wrong",
    leave_json_in_a_string: "refused, though nothing is wrong",
    drop_what_nobody_knows: "differs in extra",
    allow_any_depth: "not refused",
    keep_tokens: "differs in context",
    hide_authors: "differs in extra",
    keep_passwords_in_addresses: "differs in error",
    ignore_a_bad_secondary_id: "differs in catalog_id",
    forget_what_a_stored_row_keeps: "differs in status",
    forget_the_parent_in_the_context: "differs in parent_execution_id",
    forget_what_gave_the_status: "differs in evidence",
    keep_the_later_time_of_the_log: "differs in recorded_us",
}


@pytest.fixture
def afresh() -> Iterator[None]:
    """Answers that a rule remembers were given by the rule as it was."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    for module in (status, wire_event):
        for known in vars(module).values():
            if hasattr(known, "cache_clear"):
                known.cache_clear()


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(
    ("mutation", "kind"),
    [pytest.param(mutation, kind, id=mutation.__name__) for mutation, kind in _SEEN_AS.items()],
)
async def test_a_broken_rule_is_seen(
    mutation: Mutation,
    kind: str,
    plays: tuple[Play, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutation(monkeypatch)

    seen: dict[str, int] = {}
    for play in plays:
        seen = (await compare_in_memory(*play, Normalizer().normalize)).differences
        if kind in seen:
            break

    assert kind in seen, seen
