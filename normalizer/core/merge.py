"""Two tellings of one event in, the one row they make out, whatever their order.

Source of every rule here: one event told more than once is the join of its tellings, column by
column. A join is commutative, associative and idempotent: only then can records arrive in any
order, twice, and in any batching, and still make the same row.

JSON values are compared by their digests: none is written out or sorted here.
Source: docs/spec/wire-shapes.md#m4, #v3.
"""

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import msgspec

from normalizer.core.digests import Digest, Digests, digest_of_text, hash_of
from normalizer.core.merge_flags import (
    HAS_RIVAL,
    MERGED,
    WITHOUT_COMMAND,
    WITHOUT_STEP,
    lacks,
    with_flags,
)
from normalizer.envelope import Envelope, canonical_json

CONFLICTING_VALUES: Final = "conflicting_values"
"""The key of `extra` that keeps what a telling said and the row does not: column -> values."""

_RANKED: Final[tuple[tuple[str, int], ...]] = (("attempts", 100), ("status", 10), ("created_at", 1))
_WHOLE: Final[tuple[str, ...]] = (
    "event_type",
    "step",
    "max_attempts",
    "worker_id",
    "command_id",
    "iteration",
    "node_type",
    "catalog_id",
    "parent_event_id",
    "parent_execution_id",
    "duration",
    "error",
    "trace_id",
)
_PAYLOADS: Final[tuple[str, ...]] = ("context", "result")
_OBJECTS: Final[tuple[str, ...]] = ("meta", "extra", "headers")
MAX_VALUES: Final = 8
"""So many values of a column are kept, the one that won among them: the shortest."""
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""And so many bytes of them as jsonb writes them: as two of the largest records come to."""
_MORE: Final = "more"
"""Beside them: of which columns more values were told than are kept."""
_KEPT_COLUMNS: Final = frozenset({*(column for column, _ in _RANKED), *_WHOLE, *_PAYLOADS, _MORE})
_DIGITS: Final = 19
_KEPT_KEYS: Final = ("extra.", "meta.", "headers.")
_OWN_KEY: Final = f"extra.{CONFLICTING_VALUES}"
"""A producer's own key of that name is kept like any other value that lost."""

_by_bytes: Final = itemgetter(1)
_Object = dict[str, msgspec.Raw]
_object_decoder: msgspec.json.Decoder[_Object] = msgspec.json.Decoder(_Object)
_conflicts_decoder: msgspec.json.Decoder[dict[str, list[msgspec.Raw]]] = msgspec.json.Decoder(
    dict[str, list[msgspec.Raw]]
)
_list_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


_Values = dict[Digest, bytes]
"""Different values of a column, each in one of its spellings."""


def merge(stored: Envelope, report: Envelope, digests: Digests) -> Envelope:
    """The row of both tellings; `stored` itself when the telling adds nothing.

    The id and the coordinates stay those of `stored`: the ledger counts a row where it was stored.
    It is the row only if `digests` knew every value that it was asked for.
    """
    conflicts = _Conflicts(stored, report, digests)
    fields: dict[str, Any] = {
        column: _higher_ranked(column, digit, stored, report, conflicts)
        for column, digit in _RANKED
    }
    fields["evidence"] = _better_evidence(stored.evidence, report.evidence)
    for column in _WHOLE:
        mine, theirs = getattr(stored, column), getattr(report, column)
        if mine != theirs:
            fields[column] = _greater_value(column, mine, theirs, conflicts)
    for column in _PAYLOADS:
        fields[column] = _greater_json(
            column, getattr(stored, column), getattr(report, column), conflicts
        )
    fields["meta"] = _merge_meta(stored, report, fields["attempts"], conflicts)
    fields["headers"] = _merge_objects("headers", stored.headers, report.headers, conflicts)
    fields["coercions"] = _merge_lists(stored.coercions, report.coercions, digests)
    fields["shape"] = _greater_shape(stored.shape, report.shape)
    fields["normalizer_version"] = min(stored.normalizer_version, report.normalizer_version)
    fields["recorded_at"] = _earlier(stored.recorded_at, report.recorded_at)
    extra = _merge_objects("extra", *conflicts.extras, conflicts)
    fields["extra"] = conflicts.write_into(extra, stored, fields)
    changed = {name: value for name, value in fields.items() if value != getattr(stored, name)}
    row = msgspec.structs.replace(stored, **changed) if changed else stored
    merged = with_flags(row, _flags(stored, report, row))
    return stored if merged is stored else with_flags(merged, MERGED)


def request_digests(stored: Envelope, report: Envelope, digests: Digests) -> None:
    """Ask for nearly all that joining these two will ask for: so a batch asks the database once."""
    for column in _PAYLOADS:
        mine, theirs = getattr(stored, column), getattr(report, column)
        if mine is not None and theirs is not None and mine != theirs:
            digests.of(mine)
            digests.of(theirs)
    for column in _OBJECTS:
        mine, theirs = getattr(stored, column), getattr(report, column)
        if mine is not None and theirs is not None and mine != theirs:
            members = _object(mine)
            for key, value in _object(theirs).items():
                if key in members and members[key] != value:
                    digests.of(bytes(members[key]))
                    digests.of(bytes(value))


def reported_steps(row: Envelope) -> tuple[str, ...]:
    """The steps that reports of the row named and it does not, as far as they are kept."""
    if row.extra is None or CONFLICTING_VALUES.encode() not in row.extra:
        return ()
    try:
        return tuple(_steps_decoder.decode(row.extra).conflicting_values.step)
    except msgspec.ValidationError:  # a producer's own value of that name
        return ()


class _ReportedSteps(msgspec.Struct, frozen=True):
    step: list[str] = []


class _Steps(msgspec.Struct, frozen=True):
    conflicting_values: _ReportedSteps = _ReportedSteps()


_steps_decoder: msgspec.json.Decoder[_Steps] = msgspec.json.Decoder(_Steps)


def _flags(stored: Envelope, report: Envelope, row: Envelope) -> int:
    """What is to be remembered of two tellings beside the row that they make."""
    flags = report.merge_flags & ~MERGED
    lacking = lacks(stored) | lacks(report)
    if row.step:
        flags |= lacking & WITHOUT_STEP
    if row.command_id is not None:
        flags |= lacking & WITHOUT_COMMAND
    if stored.step and report.step and stored.step != report.step:
        flags |= HAS_RIVAL
    return flags


class _Conflicts:
    """What the tellings said otherwise: column -> the values that lost."""

    def __init__(self, stored: Envelope, report: Envelope, digests: Digests) -> None:
        self.digests = digests
        self._values: dict[str, _Values] = {}
        self._more: _Values = {}
        mine, before = self._split_extra(stored.extra)
        theirs, _ = self._split_extra(report.extra)
        self.extras = (mine, theirs)
        """Both extras without what earlier joins kept there."""
        self._before = before

    def add(self, column: str, value: bytes, digest: Digest) -> None:
        self._values.setdefault(column, {}).setdefault(digest, value)

    def write_into(
        self, extra: bytes | None, stored: Envelope, winners: dict[str, Any]
    ) -> bytes | None:
        """`extra` with the values that lost, without any that won in the end."""
        lost = self._losers({**winners, "extra": extra}, stored)
        if lost == self._before and extra == self.extras[0]:
            return stored.extra
        if not lost:
            return extra
        own = _object(extra)
        own[CONFLICTING_VALUES] = msgspec.Raw(_encode_kept(lost, self.digests))
        return _written(own)

    def _losers(self, winners: dict[str, Any], stored: Envelope) -> dict[str, list[bytes]]:
        """Of each column the first of all values told, without the one that won.

        The winner counts among them: so what is kept depends on what was told, not on the order.
        """
        lost: dict[str, list[bytes]] = {}
        objects: dict[str, _Object] = {}
        for column, values in sorted(self._values.items()):
            name, _, key = column.partition(".")
            if key:
                if name not in objects:
                    objects[name] = _object(winners[name])
                raw = objects[name].get(key)
                winner = None if raw is None else bytes(raw)
            else:
                winner = winners[name] if name in winners else getattr(stored, name)
            won = None if winner is None else self._digest(winner)
            if won is not None:
                values.setdefault(won, b"")
            first = _kept_digests(values)
            if len(first) < len(values):
                name_of_more = _canonical(column)
                self._more[digest_of_text(name_of_more)] = name_of_more
            if losers := [values[digest] for digest in first if digest != won]:
                lost[column] = losers
        if self._more:
            lost[_MORE] = [self._more[digest] for digest in sorted(self._more, key=_by_bytes)]
        return lost

    def _digest(self, value: Any) -> Digest:
        """The digest of a column's value or of a member of an object."""
        if isinstance(value, bytes):
            return self.digests.of(value)
        return digest_of_text(_canonical(value))

    def _split_extra(self, extra: bytes | None) -> tuple[bytes | None, dict[str, list[bytes]]]:
        """The extra without what was kept in it, and that."""
        if extra is None or (CONFLICTING_VALUES.encode() not in extra and b"\\" not in extra):
            return extra, {}
        own = _object(extra)
        earlier = own.pop(CONFLICTING_VALUES, None)
        if earlier is None:
            return extra, {}
        kept = _decode_kept(bytes(earlier), self.digests) or {_OWN_KEY: [bytes(earlier)]}
        for column, values in kept.items():
            into = self._more if column == _MORE else self._values.setdefault(column, {})
            for value in values:
                into.setdefault(self.digests.of(value), value)
        return _written(own) if own else None, kept


def _kept_digests(values: _Values) -> list[Digest]:
    """The digests of the values that are kept, ordered by bytes: the shortest, so many."""
    first: list[Digest] = []
    kept_bytes = 0
    for digest in sorted(values)[:MAX_VALUES]:
        kept_bytes += digest[0]
        if kept_bytes > MAX_KEPT_BYTES:
            break
        first.append(digest)
    return sorted(first, key=_by_bytes)


def _encode_kept(lost: dict[str, list[bytes]], digests: Digests) -> bytes:
    """What is kept of the values that lost; a producer's own value stays alone if nothing else."""
    own = lost.get(_OWN_KEY, [])
    if len(lost) == len(own) == 1 and _decode_kept(own[0], digests) is None:
        return own[0]
    members = (
        msgspec.json.encode(column) + b":[" + b",".join(values) + b"]"
        for column, values in lost.items()
    )
    return b"{" + b",".join(members) + b"}"


def _decode_kept(value: bytes, digests: Digests) -> dict[str, list[bytes]] | None:
    """What an earlier join kept; None for a value that a producer sent under that name."""
    try:
        conflicts = _conflicts_decoder.decode(value)
    except msgspec.MsgspecError:
        return None
    kept = {column: [bytes(one) for one in values] for column, values in conflicts.items()}
    is_ours = all(
        (column in _KEPT_COLUMNS or column.startswith(_KEPT_KEYS))
        and values
        and (known := [digests.of(one) for one in values]) == sorted(set(known), key=_by_bytes)
        for column, values in kept.items()
    )
    if not kept or not is_ours:
        return None
    # One value alone is written alone, unless it looks like what is kept.
    own = kept.get(_OWN_KEY, [])
    return None if len(kept) == len(own) == 1 and _decode_kept(own[0], digests) is None else kept


def _higher_ranked(
    column: str, digit: int, stored: Envelope, report: Envelope, conflicts: _Conflicts
) -> Any:
    """Declared beats derived, derived beats defaulted; the greater by bytes between equals."""
    mine, theirs = getattr(stored, column), getattr(report, column)
    if mine == theirs or theirs is None:
        return mine
    if mine is None:
        return theirs
    ranks = stored.evidence // digit % 10, report.evidence // digit % 10
    a, b = _canonical(mine), _canonical(theirs)
    wins = (ranks[0], a) > (ranks[1], b)
    rank, canonical = (ranks[1], b) if wins else (ranks[0], a)
    if rank and not (column == "created_at" and rank == 1):
        conflicts.add(column, canonical, digest_of_text(canonical))
    return mine if wins else theirs


def _better_evidence(a: int, b: int) -> int:
    if a == b:
        return a
    return sum(max(a // digit % 10, b // digit % 10) * digit for _, digit in _RANKED)


def _greater_value(column: str, a: Any, b: Any, conflicts: _Conflicts) -> Any:
    """Present beats absent, '' is absent; of two the greater by bytes, and the other is kept."""
    if b in (None, ""):
        return a
    if a in (None, ""):
        return b
    mine, theirs = _canonical(a), _canonical(b)
    loser = min(mine, theirs)
    conflicts.add(column, loser, digest_of_text(loser))
    return a if mine >= theirs else b


def _greater_json(
    column: str, a: bytes | None, b: bytes | None, conflicts: _Conflicts
) -> bytes | None:
    """Present beats absent, null is absent; of two the greater: by hash, short members by bytes."""
    if a == b or b in (None, b"null"):
        return a or b
    if a in (None, b"null"):
        return b
    assert a is not None
    assert b is not None
    mine, theirs = conflicts.digests.of(a), conflicts.digests.of(b)
    if mine == theirs:
        return a
    by = hash_of if column in _PAYLOADS else _by_bytes
    if by(mine) > by(theirs):
        conflicts.add(column, b, theirs)
        return a
    conflicts.add(column, a, mine)
    return b


def _merge_objects(
    column: str, a: bytes | None, b: bytes | None, conflicts: _Conflicts
) -> bytes | None:
    """Key by key: present beats absent, of two the greater; `a` if it is both."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    merged = _object(a)
    return _written(merged) if _merge_members(merged, column, _object(b), conflicts) else a


def _merge_members(mine: _Object, column: str, theirs: _Object, conflicts: _Conflicts) -> bool:
    """Join the second object into the first; whether that changed it."""
    changed = False
    for key, value in theirs.items():
        before = mine.get(key)
        if before is None:
            mine[key] = value
            changed = True
        elif before != value:
            own = bytes(before)
            winner = _greater_json(f"{column}.{key}", own, bytes(value), conflicts) or b"null"
            if winner != own:
                mine[key] = msgspec.Raw(winner)
                changed = True
    return changed


def _merge_meta(stored: Envelope, report: Envelope, attempts: int, conflicts: _Conflicts) -> bytes:
    """As any object, but `attempts` is the column's."""
    if stored.meta == report.meta and stored.attempts == report.attempts:
        return stored.meta
    mine, theirs = _object(stored.meta), _object(report.meta)
    written = msgspec.Raw(b"%d" % attempts)
    before = mine.pop("attempts", None)
    theirs.pop("attempts", None)
    if not _merge_members(mine, "meta", theirs, conflicts) and before == written:
        return stored.meta
    mine["attempts"] = written
    return _written(mine)


def _merge_lists(a: bytes | None, b: bytes | None, digests: Digests) -> bytes | None:
    """The union of two lists, each entry once, the shortest first."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    mine, theirs = _entries(a, digests), _entries(b, digests)
    if theirs.keys() <= mine.keys():
        return a
    entries = theirs | mine
    return b"[" + b",".join(entries[digest] for digest in sorted(entries)) + b"]"


def _entries(value: bytes, digests: Digests) -> _Values:
    return {digests.of(raw): raw for raw in map(bytes, _list_decoder.decode(value))}


def _greater_shape(a: str, b: str) -> str:
    known = [shape for shape in (a, b) if shape != "unknown"]
    return max(known, default="unknown")


def _earlier(a: datetime | None, b: datetime | None) -> datetime | None:
    return min((time for time in (a, b) if time is not None), default=None)


def _canonical(value: Any) -> bytes:
    """A column's value as jsonb writes it: the bytes that order two, and that keep the loser."""
    if isinstance(value, datetime):
        value = value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    text = msgspec.json.encode(value)
    # A text without an escape, and a small number of digits alone, are what they are.
    if (text[:1] == b'"' and b"\\" not in text) or (text.isdigit() and len(text) < _DIGITS):
        return text
    return canonical_json(text)


def _object(value: bytes | None) -> _Object:
    return {} if value is None else _object_decoder.decode(value)


def _written(members: Iterable[tuple[str, msgspec.Raw]] | _Object) -> bytes:
    return msgspec.json.encode(dict(members))
