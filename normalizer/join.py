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

from normalizer.envelope import Envelope, canonical_json
from normalizer.event_types import event_class

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
_KEPT_COLUMNS: Final = frozenset({*(column for column, _ in _RANKED), *_WHOLE, *_PAYLOADS})
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
    fields: dict[str, Any] = {}
    told = _Told(stored, telling)
    for column, digit in _RANKED:
        fields[column] = _ranked(column, digit, stored, telling, told)
    fields["evidence"] = sum(
        max(stored.evidence // digit % 10, telling.evidence // digit % 10) * digit
        for _, digit in _RANKED
    )
    for column in _WHOLE:
        fields[column] = _greater(column, getattr(stored, column), getattr(telling, column), told)
    for column in _PAYLOADS:
        fields[column] = _greater_json(
            column, getattr(stored, column), getattr(telling, column), told
        )
    fields["meta"] = _join_meta(stored.meta, telling.meta, fields["attempts"], told)
    fields["headers"] = _join_objects("headers", stored.headers, telling.headers, told)
    fields["coercions"] = _join_lists(stored.coercions, telling.coercions)
    fields["shape"] = _greater_shape(stored.shape, telling.shape)
    fields["normalizer_version"] = min(stored.normalizer_version, telling.normalizer_version)
    fields["recorded_at"] = _earlier(stored.recorded_at, telling.recorded_at)
    extra = _join_objects("extra", told.extra(stored), told.extra(telling), told)
    fields["extra"] = told.written_into(extra, fields)
    joined = msgspec.structs.replace(stored, **fields)
    return stored if _equal(joined, stored) else joined


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

    def __init__(self, *tellings: Envelope) -> None:
        self._values: dict[str, set[bytes]] = {}
        self._extras: dict[int, bytes | None] = {}
        for telling in tellings:
            self._extras[id(telling)] = self._taken_out(telling.extra)

    def loses(self, column: str, canonical: bytes) -> None:
        self._values.setdefault(column, set()).add(canonical)

    def extra(self, telling: Envelope) -> bytes | None:
        """The telling's extra without what earlier joins kept there."""
        return self._extras[id(telling)]

    def written_into(self, extra: bytes | None, winners: dict[str, Any]) -> bytes | None:
        """`extra` with the values that lost, without any that won in the end."""
        keys = {f"extra.{key}": value for key, value in _object(extra).items()}
        keys |= {f"meta.{key}": value for key, value in _object(winners["meta"]).items()}
        keys |= {f"headers.{key}": value for key, value in _object(winners["headers"]).items()}
        lost: dict[str, list[bytes]] = {}
        for column, values in sorted(self._values.items()):
            winner = (
                canonical_json(bytes(keys[column]))
                if column in keys
                else _canonical(winners[column])
                if column in winners
                else None
            )
            if losers := sorted(values - {winner}):
                lost[column] = losers
        if not lost:
            return extra
        own = _object(extra)
        own[TOLD_OTHERWISE] = msgspec.Raw(_kept(lost))
        return _written(own)

    def _taken_out(self, extra: bytes | None) -> bytes | None:
        own = _object(extra)
        earlier = own.pop(TOLD_OTHERWISE, None)
        if earlier is None:
            return extra
        kept = _kept_before(bytes(earlier)) or {_OWN_KEY: [canonical_json(bytes(earlier))]}
        for column, values in kept.items():
            for value in values:
                self.loses(column, value)
        return _written(own) if own else None


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
    kept = {
        column: [canonical_json(bytes(one)) for one in values] for column, values in told.items()
    }
    is_ours = all(
        (column in _KEPT_COLUMNS or column.startswith(_KEPT_KEYS))
        and values
        and values == sorted(set(values))
        for column, values in kept.items()
    )
    return kept if kept and is_ours else None


def _ranked(column: str, digit: int, stored: Envelope, telling: Envelope, told: _Told) -> Any:
    """Declared beats derived, derived beats defaulted; the greater by bytes between equals."""
    values = [
        (event.evidence // digit % 10, _canonical(value), value)
        for event in (stored, telling)
        if (value := getattr(event, column)) is not None
    ]
    if not values:
        return None
    _, winner, value = max(values, key=lambda ranked: ranked[:2])
    for rank, canonical, _ in values:
        if rank and canonical != winner and not (column == "created_at" and rank == 1):
            told.loses(column, canonical)
    return value


def _greater(column: str, a: Any, b: Any, told: _Told) -> Any:
    """Present beats absent; between two the greater by bytes, the other one is kept."""
    if a == b or b in (None, ""):
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
    canonical_a, canonical_b = canonical_json(a), canonical_json(b)
    if canonical_a == canonical_b:
        return a
    told.loses(column, min(canonical_a, canonical_b))
    return a if canonical_a > canonical_b else b


def _join_objects(column: str, a: bytes | None, b: bytes | None, told: _Told) -> bytes | None:
    """Key by key: present beats absent, the greater by bytes between two."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    joined = _object(a)
    for key, value in _object(b).items():
        mine = joined.get(key)
        winner = (
            bytes(value)
            if mine is None
            else _greater_json(f"{column}.{key}", bytes(mine), bytes(value), told)
        )
        joined[key] = msgspec.Raw(winner or b"null")
    return _written(joined)


def _join_meta(a: bytes, b: bytes, attempts: int, told: _Told) -> bytes:
    """As any object, but `attempts` is the column's."""
    metas = [_object(meta) for meta in (a, b)]
    for meta in metas:
        meta.pop("attempts", None)
    joined = _object(_join_objects("meta", _written(metas[0]), _written(metas[1]), told))
    joined["attempts"] = msgspec.Raw(b"%d" % attempts)
    return _written(joined)


def _join_lists(a: bytes | None, b: bytes | None) -> bytes | None:
    """The union of two lists, each entry once, ordered by bytes."""
    entries: set[bytes] = {
        canonical_json(bytes(entry))
        for entries in (a, b)
        if entries is not None
        for entry in _list_decoder.decode(entries)
    }
    return b"[" + b",".join(sorted(entries)) + b"]" if entries else None


def _greater_shape(a: str, b: str) -> str:
    known = [shape for shape in (a, b) if shape != "unknown"]
    return max(known, default="unknown")


def _earlier(a: datetime | None, b: datetime | None) -> datetime | None:
    return min((time for time in (a, b) if time is not None), default=None)


def _equal(a: Envelope, b: Envelope) -> bool:
    """Whether two rows say the same; JSON is compared by value, not by spelling."""
    return all(
        _value(column, getattr(a, column)) == _value(column, getattr(b, column))
        for column in Envelope.__struct_fields__
        if getattr(a, column) != getattr(b, column)
    )


def _value(column: str, value: Any) -> Any:
    if isinstance(value, bytes) and column == "coercions":
        return _join_lists(value, None)
    return canonical_json(value) if isinstance(value, bytes) else value


def _canonical(value: Any) -> bytes:
    """The bytes that order two values of a column, and that keep the one that lost."""
    if isinstance(value, bytes):
        return canonical_json(value)
    if isinstance(value, datetime):
        value = value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return canonical_json(msgspec.json.encode(value))


def _object(value: bytes | None) -> _Object:
    return {} if value is None else _object_decoder.decode(value)


def _written(members: Iterable[tuple[str, msgspec.Raw]] | _Object) -> bytes:
    return msgspec.json.encode(dict(members))
