"""Two tellings of one event in, the one row they make out, whatever their order.

Source of every rule here: one event told more than once is the join of its tellings, column by
column. A join is commutative, associative and idempotent: only then can records arrive in any
order, twice, and in any batching, and still make the same row.
"""

import hashlib
import struct
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from normalizer.core.event_types import event_class
from normalizer.envelope import Envelope, canonical_json

HASHED_REGION: Final = 1 << 62 | 1 << 61
"""Ids with bits 62 and 61 set carry no time: 61 bits of a hash."""

_HASH_BITS: Final = (1 << 61) - 1

TOLD_OTHERWISE: Final = "told_otherwise"
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
MOST: Final = 8
"""So many values of a column are kept, the one that won among them: the shortest, then by bytes."""
_MORE: Final = "more"
"""Beside them: of which columns more values were told than are kept."""
_KEPT_COLUMNS: Final = frozenset({*(column for column, _ in _RANKED), *_WHOLE, *_PAYLOADS, _MORE})
_DIGITS: Final = 19
_KEPT_KEYS: Final = ("extra.", "meta.", "headers.")
_OWN_KEY: Final = f"extra.{TOLD_OTHERWISE}"
"""A producer's own key of that name is kept like any other value that lost."""

_Object = dict[str, msgspec.Raw]
_object_decoder: msgspec.json.Decoder[_Object] = msgspec.json.Decoder(_Object)
_told_decoder: msgspec.json.Decoder[dict[str, list[msgspec.Raw]]] = msgspec.json.Decoder(
    dict[str, list[msgspec.Raw]]
)
_list_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def same_event(a: Envelope, b: Envelope) -> bool:
    """Whether two tellings with one event_id tell of one event; otherwise the id collided.

    Same execution, event types of one spelling class, and step, command_id and worker_id equal
    where both have one.
    """
    return (
        a.execution_id == b.execution_id
        and (a.event_type == b.event_type or event_class(a.event_type) == event_class(b.event_type))
        and (not a.step or not b.step or a.step == b.step)
        and (a.command_id is None or b.command_id is None or a.command_id == b.command_id)
        and (a.worker_id is None or b.worker_id is None or a.worker_id == b.worker_id)
    )


def join(stored: Envelope, telling: Envelope) -> Envelope:
    """The row of both tellings; `stored` itself when the telling adds nothing.

    The id and the coordinates stay those of `stored`: the ledger counts a row where it was stored.
    """
    told = _Told(stored, telling)
    fields: dict[str, Any] = {
        column: _ranked(column, digit, stored, telling, told) for column, digit in _RANKED
    }
    fields["evidence"] = _better_evidence(stored.evidence, telling.evidence)
    for column in _WHOLE:
        mine, theirs = getattr(stored, column), getattr(telling, column)
        if mine != theirs:
            fields[column] = _greater(column, mine, theirs, told)
    for column in _PAYLOADS:
        fields[column] = _greater_json(
            column, getattr(stored, column), getattr(telling, column), told
        )
    fields["meta"] = _join_meta(stored, telling, fields["attempts"], told)
    fields["headers"] = _join_objects("headers", stored.headers, telling.headers, told)
    fields["coercions"] = _join_lists(stored.coercions, telling.coercions)
    fields["shape"] = _greater_shape(stored.shape, telling.shape)
    fields["normalizer_version"] = min(stored.normalizer_version, telling.normalizer_version)
    fields["recorded_at"] = _earlier(stored.recorded_at, telling.recorded_at)
    extra = _join_objects("extra", *told.extras, told)
    fields["extra"] = told.written_into(extra, stored, fields)
    changed = {name: value for name, value in fields.items() if value != getattr(stored, name)}
    return msgspec.structs.replace(stored, **changed) if changed else stored


def conflict_id(event: Envelope, salt: int) -> int:
    """The id of an event whose own id belongs to another event: its own copies meet it there.

    2^62 | 2^61 | the low 61 bits of BLAKE2b over what tells the event from the other one.
    `salt` 0 adds nothing; 1, 2, 3 are tried when that id is taken too.
    """
    told = b"\0".join(
        (
            struct.pack(">Qq", event.event_id or 0, event.execution_id),
            event_class(event.event_type).encode(),
            event.step.encode(),
            (event.command_id or "").encode(),
        )
    )
    digest = hashlib.blake2b(told + bytes([salt] if salt else []), digest_size=8).digest()
    return HASHED_REGION | int.from_bytes(digest, "big") & _HASH_BITS


def rekeyed(event: Envelope, event_id: int) -> Envelope:
    """The event under another id than it brought, with the coercion that says so."""
    coercion = msgspec.json.encode(
        {"rule": "event_id_conflict", "field": "event_id", "from": event.event_id}
    )
    return msgspec.structs.replace(
        event, event_id=event_id, coercions=_join_lists(event.coercions, b"[" + coercion + b"]")
    )


class _Told:
    """What the tellings said otherwise: column -> the canonical values that lost."""

    def __init__(self, stored: Envelope, telling: Envelope) -> None:
        self._values: dict[str, set[bytes]] = {}
        self._more: set[bytes] = set()
        mine, before = self._taken_out(stored.extra)
        theirs, _ = self._taken_out(telling.extra)
        self.extras = (mine, theirs)
        """Both extras without what earlier joins kept there."""
        self._before = before

    def loses(self, column: str, canonical: bytes) -> None:
        self._values.setdefault(column, set()).add(canonical)

    def written_into(
        self, extra: bytes | None, stored: Envelope, winners: dict[str, Any]
    ) -> bytes | None:
        """`extra` with the values that lost, without any that won in the end."""
        lost = self._lost({**winners, "extra": extra}, stored)
        if lost == self._before and extra == self.extras[0]:
            return stored.extra
        if not lost:
            return extra
        own = _object(extra)
        own[TOLD_OTHERWISE] = msgspec.Raw(_kept(lost))
        return _written(own)

    def _lost(self, winners: dict[str, Any], stored: Envelope) -> dict[str, list[bytes]]:
        """Of each column the first MOST of all values told, without the one that won.

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
                winner = None if raw is None else _canonical(bytes(raw))
            else:
                value = winners[name] if name in winners else getattr(stored, name)
                winner = None if value is None else _canonical(value)
            if winner is not None:
                values.add(winner)
            first = sorted(values, key=_shorter)[:MOST]
            if len(values) > MOST:
                self._more.add(msgspec.json.encode(column))
            if losers := sorted(one for one in first if one != winner):
                lost[column] = losers
        if self._more:
            lost[_MORE] = sorted(self._more)
        return lost

    def _taken_out(self, extra: bytes | None) -> tuple[bytes | None, dict[str, list[bytes]]]:
        """The extra without what was kept in it, and that."""
        if extra is None or (TOLD_OTHERWISE.encode() not in extra and b"\\" not in extra):
            return extra, {}
        own = _object(extra)
        earlier = own.pop(TOLD_OTHERWISE, None)
        if earlier is None:
            return extra, {}
        kept = _kept_before(bytes(earlier)) or {_OWN_KEY: [canonical_json(bytes(earlier))]}
        for column, values in kept.items():
            if column == _MORE:
                self._more.update(values)
            else:
                self._values.setdefault(column, set()).update(values)
        return _written(own) if own else None, kept


def _shorter(value: bytes) -> tuple[int, bytes]:
    return len(value), value


def _kept(lost: dict[str, list[bytes]]) -> bytes:
    """What is kept of the values that lost; a producer's own value stays alone if nothing else."""
    own = lost.get(_OWN_KEY, [])
    if len(lost) == len(own) == 1 and _kept_before(own[0]) is None:
        return own[0]
    members = (
        msgspec.json.encode(column) + b":[" + b",".join(values) + b"]"
        for column, values in lost.items()
    )
    return b"{" + b",".join(members) + b"}"


def _kept_before(value: bytes) -> dict[str, list[bytes]] | None:
    """What an earlier join kept; None for a value that a producer sent under that name."""
    try:
        told = _told_decoder.decode(value)
    except msgspec.MsgspecError:
        return None
    kept = {column: [_canonical(bytes(one)) for one in values] for column, values in told.items()}
    is_ours = all(
        (column in _KEPT_COLUMNS or column.startswith(_KEPT_KEYS))
        and values
        and values == sorted(set(values))
        for column, values in kept.items()
    )
    if not kept or not is_ours:
        return None
    # One value alone is written alone, unless it looks like what is kept.
    own = kept.get(_OWN_KEY, [])
    return None if len(kept) == len(own) == 1 and _kept_before(own[0]) is None else kept


def _ranked(column: str, digit: int, stored: Envelope, telling: Envelope, told: _Told) -> Any:
    """Declared beats derived, derived beats defaulted; the greater by bytes between equals."""
    mine, theirs = getattr(stored, column), getattr(telling, column)
    if mine == theirs or theirs is None:
        return mine
    if mine is None:
        return theirs
    ranks = stored.evidence // digit % 10, telling.evidence // digit % 10
    a, b = _canonical(mine), _canonical(theirs)
    wins = (ranks[0], a) > (ranks[1], b)
    rank, canonical = (ranks[1], b) if wins else (ranks[0], a)
    if rank and not (column == "created_at" and rank == 1):
        told.loses(column, canonical)
    return mine if wins else theirs


def _better_evidence(a: int, b: int) -> int:
    if a == b:
        return a
    return sum(max(a // digit % 10, b // digit % 10) * digit for _, digit in _RANKED)


def _greater(column: str, a: Any, b: Any, told: _Told) -> Any:
    """Present beats absent; between two the greater by bytes, the other one is kept."""
    if b in (None, ""):
        return a
    if a in (None, ""):
        return b
    winner, loser = (a, b) if _canonical(a) >= _canonical(b) else (b, a)
    told.loses(column, _canonical(loser))
    return winner


def _greater_json(column: str, a: bytes | None, b: bytes | None, told: _Told) -> bytes | None:
    if a == b or b in (None, b"null"):
        return a or b
    if a in (None, b"null"):
        return b
    canonical_a, canonical_b = _canonical(a), _canonical(b)
    if canonical_a == canonical_b:
        return a
    told.loses(column, min(canonical_a, canonical_b))
    return a if canonical_a > canonical_b else b


def _join_objects(column: str, a: bytes | None, b: bytes | None, told: _Told) -> bytes | None:
    """Key by key: present beats absent, the greater by bytes between two; `a` if it is both."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    joined = _object(a)
    return _written(joined) if _add_to(joined, column, _object(b), told) else a


def _add_to(mine: _Object, column: str, theirs: _Object, told: _Told) -> bool:
    """Join the second object into the first; whether that changed it."""
    changed = False
    for key, value in theirs.items():
        before = mine.get(key)
        if before is None:
            mine[key] = value
            changed = True
        elif before != value:
            own = bytes(before)
            winner = _greater_json(f"{column}.{key}", own, bytes(value), told) or b"null"
            if winner != own:
                mine[key] = msgspec.Raw(winner)
                changed = True
    return changed


def _join_meta(stored: Envelope, telling: Envelope, attempts: int, told: _Told) -> bytes:
    """As any object, but `attempts` is the column's."""
    if stored.meta == telling.meta and stored.attempts == telling.attempts:
        return stored.meta
    mine, theirs = _object(stored.meta), _object(telling.meta)
    written = msgspec.Raw(b"%d" % attempts)
    before = mine.pop("attempts", None)
    theirs.pop("attempts", None)
    if not _add_to(mine, "meta", theirs, told) and before == written:
        return stored.meta
    mine["attempts"] = written
    return _written(mine)


def _join_lists(a: bytes | None, b: bytes | None) -> bytes | None:
    """The union of two lists, each entry once, ordered by bytes."""
    if a == b or b is None:
        return a
    entries = _entries(b)
    if a is not None:
        mine = _entries(a)
        if entries <= mine:
            return a
        entries |= mine
    return b"[" + b",".join(sorted(entries)) + b"]" if entries else None


def _entries(value: bytes) -> set[bytes]:
    return {canonical_json(bytes(entry)) for entry in _list_decoder.decode(value)}


def _greater_shape(a: str, b: str) -> str:
    known = [shape for shape in (a, b) if shape != "unknown"]
    return max(known, default="unknown")


def _earlier(a: datetime | None, b: datetime | None) -> datetime | None:
    return min((time for time in (a, b) if time is not None), default=None)


def _canonical(value: Any) -> bytes:
    """The bytes that order two values of a column, and that keep the one that lost."""
    if not isinstance(value, bytes):
        if isinstance(value, datetime):
            value = value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        value = msgspec.json.encode(value)
    text: bytes = value
    # A text without an escape, and a small number of digits alone, are what they are.
    if (text[:1] == b'"' and b"\\" not in text) or (text.isdigit() and len(text) < _DIGITS):
        return text
    return canonical_json(text)


def _object(value: bytes | None) -> _Object:
    return {} if value is None else _object_decoder.decode(value)


def _written(members: Iterable[tuple[str, msgspec.Raw]] | _Object) -> bytes:
    return msgspec.json.encode(dict(members))
