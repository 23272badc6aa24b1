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
from normalizer.core.decode.wire_values import Value, check_max_bytes
from normalizer.core.evidence import EvidenceRank
from normalizer.core.rules.event_types import event_class
from normalizer.envelope import CALL_DONE_EVENT_TYPES

MAX_STATUS_BYTES: Final = 100

RankedStatus: TypeAlias = tuple[str, EvidenceRank]
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
"""Every word that begins with this means FAILED."""
_UNKNOWN: Final = "UNKNOWN"
"""A word that says nothing, like a missing status."""
_REMEMBERED: Final = 1024
"""How many results to cache. A platform uses few words, and each unknown word takes one entry."""

_FAILURES: Final = frozenset(("FAILED", "ERROR", "CANCELLED"))
_NESTED_ENDINGS: Final = frozenset(("COMPLETED", "FAILED", "CANCELLED"))
"""A nested word for one of these counts only if the event ends something."""
_ENDINGS: Final = _NESTED_ENDINGS | {"SKIPPED"}
"""An event ends something, for example a step, if its type implies one of these."""
_WEAKER: Final = frozenset(("RUNNING", "STARTED", "PENDING", "INITIALIZED", "CLAIMED", "ENTERED"))
"""Canonical words that count less than the type of an event that ends something."""
_NO_STATUSES: Final = (None, None, None)

_WORK: Final = frozenset(("call", "command", "step", "action"))
"""The first words of event types of a call, a command, or a step."""
_BETWEEN_WORDS: Final = re.compile("[^A-Za-z0-9]+")
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
"""The status that an event type implies if it has one of these words. The first line counts."""


class _TypeMeaning(NamedTuple):
    """The status that an event type implies, and how it compares with other evidence.

    - `ends` means that the event ends something, for example a command.
    - `by_servers` means that servers derive the declared status from the event type. So a declared
      status that equals the implied one proves nothing (#s7).
    - `any_word` means that the nested status may be any word, because users choose it (#s10).
    """

    status: str
    ends: bool
    by_servers: bool
    any_word: bool


def resolve_status(event: WireEvent, event_type: str) -> RankedStatus:
    """Return the status of the event. Raises RecordRejectedError if the word is too long (#l1)."""
    declared = _declared(event)
    if event_type in CALL_DONE_EVENT_TYPES:
        return _call_status(event, declared)
    return _other_status(event, event_type, declared)


@lru_cache(maxsize=_REMEMBERED)
def _meaning_of_type(event_type: str) -> _TypeMeaning:
    """Return what an event type implies (#s1, #s7, #s10, #s11)."""
    in_order = _BETWEEN_WORDS.split(event_type.lower())
    words = {*in_order, "timedout"} if ("timed", "out") in pairwise(in_order) else set(in_order)
    status = next((status for status, any_of in _TYPE_WORDS if words & any_of), "RUNNING")
    return _TypeMeaning(
        status,
        ends=status in _ENDINGS,
        by_servers=status == "COMPLETED" and in_order[0] in _WORK,
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
    event.record_coercion_without_original("status_not_text", "status")
    return ""


def _call_status(event: WireEvent, declared: str) -> RankedStatus:
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
        if declared.upper() != outcome:
            event.keep_extra("status")
        return outcome, 2
    nested = _nested_outcomes(event.nested)
    failure = next((found for found in nested if found in _FAILURES), None)
    if (outcome is not None and failure is None) or _is_unknown(declared):
        if declared.upper() != (outcome or ""):
            event.keep_extra("status")
    elif outcome is not None or _other_word(declared) in _WEAKER:
        event.record_coercion("status_overruled", "status", declared)
    else:
        event.record_coercion("status_unmapped", "status", declared)
    if failure is not None:
        return failure, 2
    return "COMPLETED", 1 if nested else 0


def _other_status(event: WireEvent, event_type: str, declared: str) -> RankedStatus:
    """Return the status of an event that doesn't end a call.

        declared              event type                             status
        nothing, or UNKNOWN   any                                    nested, else implied
        a weaker word         ends something, declared by servers    nested, else implied
        a weaker word         ends something otherwise               implied
        the implied status    declared by servers                    nested, else implied
        anything else         any                                    declared

    The event type implies the implied status, which has rank 0. Any other has rank 2 if it's a
    failure, otherwise 1. A coercion records the declared word if the status differs from it.
    """
    # Bypass the cache for a longer word, so that the cache doesn't hold megabytes of text.
    judge = _judge if len(declared) <= MAX_STATUS_BYTES else _judge.__wrapped__
    status, rank, word, is_respelled, asks_nested = judge(declared, event_type)
    if asks_nested and (nested := _nested_status(event, event_type)) is not None:
        status, rank = nested, _rank(nested)
    if word and word != status:
        event.record_coercion("status_overruled", "status", declared)
    elif is_respelled:
        event.keep_extra("status")
    return status, rank


class _Verdict(NamedTuple):
    """The line of that table for a declared word and an event type.

    - `status` and `rank` are those of the event, unless nested evidence counts and there's some.
    - `word` is the canonical word for the declared one, or '' if that's missing or UNKNOWN.
    - `is_respelled` means that the declared word differs from `word` by more than case.
    - `asks_nested` means that nested evidence counts.
    """

    status: str
    rank: EvidenceRank
    word: str
    is_respelled: bool
    asks_nested: bool


@lru_cache(maxsize=_REMEMBERED)
def _judge(declared: str, event_type: str) -> _Verdict:
    """Find the line of the table. There's one `return` for each, except for both weaker words."""
    meaning = _meaning_of_type(event_type)
    word = "" if _is_unknown(declared) else _other_word(declared)
    is_respelled = declared.upper() != word
    if not word:
        return _Verdict(meaning.status, 0, word, is_respelled, asks_nested=True)
    if word in _WEAKER and meaning.ends:
        return _Verdict(meaning.status, 0, word, is_respelled, asks_nested=meaning.by_servers)
    if word == meaning.status and meaning.by_servers:
        return _Verdict(meaning.status, 0, word, is_respelled, asks_nested=True)
    check_max_bytes("status", word, MAX_STATUS_BYTES)
    return _Verdict(word, _rank(word), word, is_respelled, asks_nested=False)


def _nested_status(event: WireEvent, event_type: str) -> str | None:
    """Return the status that words nested in the payload and the result imply, or None.

    That's the first failure, otherwise the first word other than COMPLETED, otherwise COMPLETED
    (#s3).
    """
    nested = event.nested
    values = (nested.payload.status, _stored_payload_status(event), nested.result.status)
    if values == _NO_STATUSES:
        return None  # nearly every event
    meaning = _meaning_of_type(event_type)
    words = [
        word
        for value in values
        if type(value) is str and (word := _nested_word(value, meaning)) is not None
    ]
    words = [word for word in words if word != "COMPLETED"] or words
    return next((word for word in words if word in _FAILURES), next(iter(words), None))


def _stored_payload_status(event: WireEvent) -> Value:
    """Return the status of a stored payload, unless it's the status of a tool (#s16)."""
    own = event.nested.result.status
    if type(own) is str and not _is_unknown(own) and not event.has_prev_event_id():
        return None
    return event.nested.stored_payload.status


def _nested_word(sent: str, meaning: _TypeMeaning) -> str | None:
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


def _nested_outcomes(nested: NestedObjects) -> list[str]:
    """Return the outcomes nested in a call, in the order in which they count."""
    values: tuple[Value, ...] = (nested.payload.status,)
    if nested.deep:
        values = _deep_statuses(nested)
    return [
        outcome
        for value in values
        if type(value) is str and (outcome := _call_outcome(value)) is not None
    ]


def _deep_statuses(nested: NestedObjects) -> tuple[Value, ...]:
    return (
        nested.payload.status,
        nested.payload_result.status,
        nested.payload_result_context.status,
        nested.payload_result_context.terminal_state,
        nested.payload_response.status,
        nested.stored_payload.status,
        nested.stored_payload.terminal_state,
        nested.stored_payload_result.status,
        nested.stored_payload_result_context.status,
        nested.stored_payload_result_context.terminal_state,
        nested.stored_payload_response.status,
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


def _is_unknown(declared: str) -> bool:
    return not declared or declared.upper() == _UNKNOWN


def _rank(canonical: str) -> EvidenceRank:
    return 2 if canonical in _FAILURES else 1


def _fold(sent: str) -> str:
    return sent.upper().replace("-", "_").replace(" ", "_")
