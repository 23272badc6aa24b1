"""Finds the status of an event, and how strong the evidence for it is.

An event may have up to three pieces of evidence: the status that it declares, a status nested in
its payload, and the status that its event type implies. They may disagree, and these rules decide
which one counts. Source: docs/spec/wire-shapes.md#s1, #s2, #s3, #s4, #s5, #s6, #s7, #s8, #s9, #s10,
#s11, #s13, #s14, #s16.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_fields import NestedObjects
from normalizer.core.decode.wire_values import Value, within_bytes
from normalizer.core.evidence import Rank
from normalizer.core.rules.event_types import event_class
from normalizer.envelope import CALL_DONE

MAX_STATUS_BYTES: Final = 100

Status: TypeAlias = tuple[str, Rank]
"""The canonical word, and the rank of its evidence."""


_OUTCOMES: Final = {
    word: outcome
    for outcome, words in {
        "COMPLETED": "COMPLETED COMPLETE SUCCESS SUCCEEDED SUCCESSFUL DONE OK FINISHED PASSED",
        "FAILED": "FAILED FAIL FAILURE REJECTED",
        "ERROR": "ERROR ERRORED EXCEPTION ERR TIMEOUT TIMED_OUT",
        "CANCELLED": "CANCELLED CANCELED CANCEL ABORTED TERMINATED KILLED",
    }.items()
    for word in words.split()
}
"""Every word for one of the four outcomes. Add a new word for an outcome here."""
_CALL_OUTCOMES: Final = _OUTCOMES | dict.fromkeys(("NOOP", "BREAK", "PARTIAL"), "COMPLETED")
_OTHER_WORDS: Final = (
    _OUTCOMES
    | {word: "FAILED" for word, outcome in _OUTCOMES.items() if outcome == "ERROR"}
    | dict.fromkeys(("STARTED", "INITIATED"), "STARTED")
    | dict.fromkeys(("PENDING", "QUEUED", "CREATED"), "PENDING")
    | {"INITIALIZED": "INITIALIZED"}
    | dict.fromkeys(("IN_PROGRESS", "PROGRESS"), "RUNNING")
)
"""The words of events that don't end a call. Add a new word that isn't an outcome here. A word that
isn't listed is stored in upper case."""
_FAILED_PREFIX: Final = "FAILED_"
_FAILURES: Final = frozenset(("FAILED", "ERROR", "CANCELLED"))
_NESTED_ENDINGS: Final = frozenset(("COMPLETED", "FAILED", "CANCELLED"))
_ENDINGS: Final = _NESTED_ENDINGS | {"SKIPPED"}
_NOWHERE: Final = (None, None, None)
_WEAKER: Final = frozenset(("RUNNING", "STARTED", "PENDING", "INITIALIZED", "CLAIMED", "ENTERED"))
"""Canonical words that count less than the type of an event that ends something."""
_REMEMBERED: Final = 1024
"""How many results to cache. A platform uses few words, and each unknown word takes one entry."""
_UNKNOWN: Final = "UNKNOWN"

_WORK: Final = frozenset(("call", "command", "step", "action"))
"""The first words of event types of a call, a command, or a step."""
_NAME_WORDS: Final = re.compile("[^A-Za-z0-9]+")
_TYPE_WORDS: Final = (
    ("CANCELLED", frozenset(("cancel", "cancelled", "canceled"))),
    ("FAILED", frozenset(("error", "failed", "fail", "failure", "timeout", "timedout"))),
    (
        "COMPLETED",
        frozenset(("done", "exit", "exited", "complete", "completed", "finished")),
    ),
    ("SKIPPED", frozenset(("skipped",))),
    ("PENDING", frozenset(("issued",))),
)


class TypeMeaning(NamedTuple):
    """The status that an event type implies, and how it compares with other evidence.

    - `ends` means that the event ends something, for example a command.
    - `by_servers` means that servers derive the declared status from the event type. So a declared
      status that equals the implied one proves nothing.
    - `any_word` means that the nested status may be any word, because users choose it.
    """

    status: str
    ends: bool
    by_servers: bool
    any_word: bool


def resolve_status(event: WireEvent, event_type: str) -> Status:
    """Return the status of the event. Raises RecordRejectedError if the word is too long (#l1)."""
    declared = _declared(event)
    if event_type in CALL_DONE:
        return _call_status(event, declared)
    return _other_status(event, event_type, declared)


@lru_cache(maxsize=_REMEMBERED)
def meaning_of_type(event_type: str) -> TypeMeaning:
    """Return what an event type implies (#s1, #s7, #s10, #s11)."""
    listed = _NAME_WORDS.split(event_type.lower())
    words = {*listed, "timedout"} if ("timed", "out") in pairwise(listed) else set(listed)
    status = next((status for status, named in _TYPE_WORDS if words & named), "RUNNING")
    return TypeMeaning(
        status,
        ends=status in _ENDINGS,
        by_servers=status == "COMPLETED" and listed[0] in _WORK,
        any_word=event_class(event_type) == "step.exit",
    )


def _declared(event: WireEvent) -> str:
    """Return the status declared at the top level, or '' (#s5)."""
    value = event.sent.status
    if value is None:
        return ""
    if type(value) is str:
        return value
    event.keep_extra("status")
    event.flag("status_not_text", "status")
    return ""


def _call_status(event: WireEvent, declared: str) -> Status:
    """Return the status of a finished call: COMPLETED, or the failure FAILED, ERROR, or CANCELLED.

    A declared failure counts first, then a nested one. Without any failure the call is completed.

        declared         nested        status             rank
        a failure        anything      the declared one   2
        COMPLETED        no failure    COMPLETED          1 if anything is nested, else 0
        anything else    no failure    COMPLETED          the same
        no failure       a failure     the nested one     2

    If the declared word says something other than the status, a coercion records that word, unless
    it's missing or UNKNOWN.
    """
    outcome = _call_outcome(declared)
    if outcome in _FAILURES:
        return _as_declared(event, declared, outcome)
    nested = _nested_outcomes(event.nested)
    failure = next((found for found in nested if found in _FAILURES), None)
    if failure is None and outcome is not None:
        status, _ = _as_declared(event, declared, outcome)
        return status, 1 if nested else 0
    if _is_unknown(declared):
        _keep_declared(event, declared)
    elif outcome is not None or _other_word(declared) in _WEAKER:
        event.coerce("status_overruled", "status", declared)
    else:
        event.coerce("status_unmapped", "status", declared)
    if failure is not None:
        return failure, 2
    return "COMPLETED", 1 if nested else 0


def _other_status(event: WireEvent, event_type: str, declared: str) -> Status:
    # Bypass the cache for a longer word, so that the cache doesn't hold megabytes of text.
    judge = _judge if len(declared) <= MAX_STATUS_BYTES else _judge.__wrapped__
    judged = judge(declared, event_type)
    found = None if judged.decided else _found_in_nested(event, event_type)
    contradicts = found is not None and found != judged.status and not _is_unknown(declared)
    if judged.overruled or contradicts:
        event.coerce("status_overruled", "status", declared)
    elif judged.kept:
        event.keep_extra("status")
    if found is not None:
        return found, _rank(found)
    return judged.status, judged.rank if judged.decided else 0


def _found_in_nested(event: WireEvent, event_type: str) -> str | None:
    """Return the status that follows from the status of the payload and of the result, or None."""
    nested = event.nested
    values = (nested.payload.status, _stored_payload_status(event), nested.result.status)
    if values == _NOWHERE:
        return None  # nearly every event
    return _nested_status(meaning_of_type(event_type), values)


def _stored_payload_status(event: WireEvent) -> Value:
    """Return `result.context.status`, unless it's the status of a tool (#s16)."""
    own = event.nested.result.status
    if type(own) is str and not _is_unknown(own) and not event.names_its_previous():
        return None
    return event.nested.result_context.status


def _nested_status(meaning: TypeMeaning, values: tuple[Value, ...]) -> str | None:
    """Return the status that nested words imply, or None.

    That's the first failure, otherwise the first word other than COMPLETED, otherwise COMPLETED
    (#s3).
    """
    words = [
        found
        for value in values
        if type(value) is str and (found := _nested_word(value, meaning)) is not None
    ]
    words = [found for found in words if found != "COMPLETED"] or words
    return next((found for found in words if found in _FAILURES), next(iter(words), None))


class _Judged(NamedTuple):
    """The status that follows from the declared word and the event type.

    - `decided` means that this status is final, so nested evidence doesn't count.
    - `overruled` means that the event type took precedence over the declared word.
    - `kept` means that the declared word is stored in `extra`, because it says more than the
      status.
    """

    status: str
    rank: Rank
    decided: bool = True
    overruled: bool = False
    kept: bool = False


@lru_cache(maxsize=_REMEMBERED)
def _judge(declared: str, event_type: str) -> _Judged:
    meaning = meaning_of_type(event_type)
    if _is_unknown(declared):
        return _Judged(meaning.status, 0, decided=False, kept=declared != "")
    canonical = _other_word(declared)
    if canonical in _WEAKER and meaning.ends:
        return _Judged(meaning.status, 0, decided=not meaning.by_servers, overruled=True)
    kept = declared.upper() != canonical
    if meaning.by_servers and canonical == meaning.status:
        return _Judged(meaning.status, 0, decided=False, kept=kept)
    return _Judged(within_bytes("status", canonical, MAX_STATUS_BYTES), _rank(canonical), kept=kept)


def _nested_outcomes(nested: NestedObjects) -> list[str]:
    """Return the outcomes nested in a call, in the order in which they count."""
    values: tuple[Value, ...] = (nested.payload.status,)
    if nested.deep:
        values = _deep_outcomes(nested)
    return [
        outcome
        for value in values
        if type(value) is str and (outcome := _call_outcome(value)) is not None
    ]


def _deep_outcomes(nested: NestedObjects) -> tuple[Value, ...]:
    return (
        nested.payload.status,
        nested.payload_result.status,
        nested.payload_result_context.status,
        nested.payload_result_context.terminal_state,
        nested.payload_response.status,
        # A stored row has the payload under result.context, with the same fields (#s6).
        nested.result_context.status,
        nested.result_context.terminal_state,
        nested.result_inner.status,
        nested.result_inner_context.status,
        nested.result_inner_context.terminal_state,
        nested.result_response.status,
        nested.result.status,
    )


def _call_outcome(sent: str) -> str | None:
    return _known_call_outcome(sent[:MAX_STATUS_BYTES])


def _other_word(sent: str) -> str:
    """Return the canonical word, or an unknown word in upper case (#s4)."""
    return _known_other_word(sent[:MAX_STATUS_BYTES]) or sent.upper()


# Both functions cache their results, so callers pass only the first MAX_STATUS_BYTES characters of
# a word. No known word is longer, so that's enough to recognize it. If the cache held whole words,
# long unknown ones could make it grow to megabytes.
@lru_cache(maxsize=_REMEMBERED)
def _known_call_outcome(sent: str) -> str | None:
    folded = _fold(sent)
    return "FAILED" if folded.startswith(_FAILED_PREFIX) else _CALL_OUTCOMES.get(folded)


@lru_cache(maxsize=_REMEMBERED)
def _known_other_word(sent: str) -> str | None:
    folded = _fold(sent)
    return "FAILED" if folded.startswith(_FAILED_PREFIX) else _OTHER_WORDS.get(folded)


def _nested_word(sent: str, meaning: TypeMeaning) -> str | None:
    """Return the canonical word if it's evidence, otherwise None.

    A word for an ending counts only if the event ends something (#s3, #s8, #s10).
    """
    if _is_unknown(sent):
        return None
    found = _other_word(sent)
    if found in _WEAKER:
        return None if meaning.ends else found
    if found == "COMPLETED" and meaning.status in _FAILURES:
        return None
    if found in _NESTED_ENDINGS:
        return found if meaning.ends else None
    return found if meaning.any_word and len(found.encode()) <= MAX_STATUS_BYTES else None


def _as_declared(event: WireEvent, declared: str, canonical: str) -> Status:
    if declared != canonical and declared.upper() != canonical:
        event.keep_extra("status")
    return within_bytes("status", canonical, MAX_STATUS_BYTES), _rank(canonical)


def _keep_declared(event: WireEvent, declared: str) -> None:
    if declared:
        event.keep_extra("status")


def _is_unknown(declared: str) -> bool:
    return not declared or declared.upper() == _UNKNOWN


def _rank(canonical: str) -> Rank:
    return 2 if canonical in _FAILURES else 1


def _fold(sent: str) -> str:
    return sent.upper().replace("-", "_").replace(" ", "_")
