"""Stores the values that lost in a merge of reports, in the row's `extra`."""

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import msgspec

from normalizer.core.evidence import Evidence
from normalizer.core.identity.digests import Digest, DigestCache, digest_jsonb_text
from normalizer.envelope import Envelope, canonical_json

SCALAR_COLUMNS: Final[tuple[str, ...]] = (
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
PAYLOAD_COLUMNS: Final[tuple[str, ...]] = ("context", "result")
CONFLICTING_VALUES_KEY: Final = "conflicting_values"
"""The key of `extra` that holds the values that lost, as lists by column."""
MAX_KEPT_VALUES: Final = 8
"""How many values of a column to store, the shortest first. The value that won counts too."""
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""How many bytes of a column's values to store, as jsonb text. It's the size of two maximal
records."""
_MORE: Final = "more"
"""The key that lists the columns of which more values were reported than are stored."""
_KEPT_COLUMNS: Final = frozenset({*Evidence._fields, *SCALAR_COLUMNS, *PAYLOAD_COLUMNS, _MORE})
_KEPT_KEYS: Final = ("extra.", "meta.", "headers.")
_OWN_KEY: Final = f"extra.{CONFLICTING_VALUES_KEY}"
"""The column under which a producer's own field of that name is stored, if it lost."""
_DIGITS: Final = 19
digest_sort_key: Final = itemgetter(1)
"""The key to sort digests by the bytes of a short value, or the sha256 of a longer one."""
RawJsonObject = dict[str, msgspec.Raw]
ValuesByDigest = dict[Digest, bytes]
"""The different values of a column by digest, each in one of its spellings."""
_object_decoder: msgspec.json.Decoder[RawJsonObject] = msgspec.json.Decoder(RawJsonObject)
_conflicts_decoder: msgspec.json.Decoder[dict[str, list[msgspec.Raw]]] = msgspec.json.Decoder(
    dict[str, list[msgspec.Raw]]
)


class LosingValues:
    """Collects, by column, the values that lose while two reports are merged."""

    def __init__(self, stored: Envelope, report: Envelope, digests: DigestCache) -> None:
        self.digests = digests
        self._values: dict[str, ValuesByDigest] = {}
        self._more: ValuesByDigest = {}
        mine, self._lost_before = self._split_extra(stored.extra)
        theirs, _ = self._split_extra(report.extra)
        self.extras = (mine, theirs)
        """The `extra` of both, without the values that earlier merges have stored there."""

    def add(self, column: str, value: bytes, digest: Digest) -> None:
        """Add a value that lost."""
        self._values.setdefault(column, {}).setdefault(digest, value)

    def extra_with_losers(
        self, extra: bytes | None, stored: Envelope, winners: dict[str, Any]
    ) -> bytes | None:
        """Add the values that lost to `extra`, except for those that won in the end."""
        lost = self._losers({**winners, "extra": extra}, stored)
        if lost == self._lost_before and extra == self.extras[0]:
            return stored.extra
        if not lost:
            return extra
        own = decode_json_object(extra)
        own[CONFLICTING_VALUES_KEY] = msgspec.Raw(_encode_kept(lost, self.digests))
        return encode_json_object(own)

    def _losers(self, winners: dict[str, Any], stored: Envelope) -> dict[str, list[bytes]]:
        """Return, for each column, the values to store besides the one that won.

        Only a limited number of values is stored, and the winner counts towards this limit.
        Otherwise the order in which reports arrive could change which values are stored.
        """
        lost: dict[str, list[bytes]] = {}
        objects: dict[str, RawJsonObject] = {}
        for column, values in sorted(self._values.items()):
            name, _, key = column.partition(".")
            if key:
                if name not in objects:
                    objects[name] = decode_json_object(winners[name])
                raw = objects[name].get(key)
                winner = None if raw is None else bytes(raw)
            else:
                winner = winners[name] if name in winners else getattr(stored, name)
            won = None if winner is None else self._digest(winner)
            if won is not None:
                values.setdefault(won, b"")
            first = _kept_digests(values)
            if len(first) < len(values):
                name_of_more = to_jsonb_text(column)
                self._more[digest_jsonb_text(name_of_more)] = name_of_more
            if losers := [values[digest] for digest in first if digest != won]:
                lost[column] = losers
        if self._more:
            lost[_MORE] = [self._more[digest] for digest in sorted(self._more, key=digest_sort_key)]
        return lost

    def _digest(self, value: Any) -> Digest:
        """Return the digest of a column's value, or of a member of an object."""
        if isinstance(value, bytes):
            return self.digests.digest_or_placeholder(value)
        return digest_jsonb_text(to_jsonb_text(value))

    def _split_extra(self, extra: bytes | None) -> tuple[bytes | None, dict[str, list[bytes]]]:
        """Split `extra` into the producer's own fields and the values an earlier merge kept."""
        if extra is None or (CONFLICTING_VALUES_KEY.encode() not in extra and b"\\" not in extra):
            return extra, {}
        own = decode_json_object(extra)
        earlier = own.pop(CONFLICTING_VALUES_KEY, None)
        if earlier is None:
            return extra, {}
        kept = _decode_kept(bytes(earlier), self.digests) or {_OWN_KEY: [bytes(earlier)]}
        for column, values in kept.items():
            into = self._more if column == _MORE else self._values.setdefault(column, {})
            for value in values:
                into.setdefault(self.digests.digest_or_placeholder(value), value)
        return encode_json_object(own) if own else None, kept


def _kept_digests(values: ValuesByDigest) -> list[Digest]:
    """Return the digests of the values to store, sorted by bytes.

    These are the shortest values, up to the limits.
    """
    first: list[Digest] = []
    kept_bytes = 0
    for digest in sorted(values)[:MAX_KEPT_VALUES]:
        kept_bytes += digest[0]
        if kept_bytes > MAX_KEPT_BYTES:
            break
        first.append(digest)
    return sorted(first, key=digest_sort_key)


def _encode_kept(lost: dict[str, list[bytes]], digests: DigestCache) -> bytes:
    """Encode the values that lost in a merge, for the field `conflicting_values` of `extra`.

    A producer may have sent a field of that name too, and its value must be kept like any other. If
    it's the only value to store, it's stored unchanged. There's one exception: if it looks just
    like an object that a merge stores, it's wrapped in such an object, so that it can't be mistaken
    for one later.
    """
    own = lost.get(_OWN_KEY, [])
    if len(lost) == len(own) == 1 and _decode_kept(own[0], digests) is None:
        return own[0]
    members = (
        msgspec.json.encode(column) + b":[" + b",".join(values) + b"]"
        for column, values in lost.items()
    )
    return b"{" + b",".join(members) + b"}"


def _decode_kept(value: bytes, digests: DigestCache) -> dict[str, list[bytes]] | None:
    """Return the values that an earlier merge stored, or None if a producer sent this key."""
    try:
        conflicts = _conflicts_decoder.decode(value)
    except msgspec.MsgspecError:
        return None
    kept = {column: [bytes(one) for one in values] for column, values in conflicts.items()}
    is_ours = all(
        (column in _KEPT_COLUMNS or column.startswith(_KEPT_KEYS))
        and values
        and (known := [digests.digest_or_placeholder(one) for one in values])
        == sorted(set(known), key=digest_sort_key)
        for column, values in kept.items()
    )
    if not kept or not is_ours:
        return None
    # A producer may use the same field name as we do, so decide whether a merge made this object.
    # If the producer's value is the only one to store, a merge stores it unchanged, unless that
    # value looks like an object of ours. In that case `_encode_kept` wraps it. So if this object
    # holds only one value, and that value doesn't look like an object of ours, no merge made it.
    # The producer sent all of it.
    own = kept.get(_OWN_KEY, [])
    return None if len(kept) == len(own) == 1 and _decode_kept(own[0], digests) is None else kept


def losing_values(row: Envelope) -> list[tuple[str, bytes]]:
    """Return each value that lost in a merge, with its column.

    Merges store these values in the field `conflicting_values` of `extra`. If a producer sent a
    field of that name in the same form, its values are returned too, because nothing distinguishes
    them from values that a merge stored.
    """
    if row.extra is None or CONFLICTING_VALUES_KEY.encode() not in row.extra:
        return []
    try:
        kept = _kept_decoder.decode(row.extra).conflicting_values
    except msgspec.ValidationError:  # a producer's own value of that name
        return []
    return [(column, bytes(value)) for column, values in kept.items() for value in values]


def losing_steps(row: Envelope) -> tuple[str, ...]:
    """Return the steps that reports of the row named, but that lost and are still stored."""
    return tuple(
        msgspec.json.decode(value) for column, value in losing_values(row) if column == "step"
    )


class LosingStepsCache:
    """Caches `losing_steps` for each state of a row, because thousands of events may need it."""

    def __init__(self) -> None:
        self._known: dict[int | None, tuple[bytes | None, tuple[str, ...]]] = {}

    def steps_for_row(self, row: Envelope) -> tuple[str, ...]:
        """Return the steps that reports of the row named, but that lost."""
        extra, steps = self._known.get(row.event_id, (None, ()))
        if extra is not row.extra:
            steps = losing_steps(row)
            self._known[row.event_id] = (row.extra, steps)
        return steps


class _Kept(msgspec.Struct, frozen=True):
    conflicting_values: dict[str, list[msgspec.Raw]] = {}


_kept_decoder: msgspec.json.Decoder[_Kept] = msgspec.json.Decoder(_Kept)


def to_jsonb_text(value: Any) -> bytes:
    """Return a column's value as jsonb text, by which two values are ordered."""
    if isinstance(value, datetime):
        value = value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    text = msgspec.json.encode(value)
    # Text without escapes and a short integer are already canonical.
    if (text[:1] == b'"' and b"\\" not in text) or (text.isdigit() and len(text) < _DIGITS):
        return text
    return canonical_json(text)


def decode_json_object(value: bytes | None) -> RawJsonObject:
    """Return the members of a JSON object, or {} for None."""
    return {} if value is None else _object_decoder.decode(value)


def encode_json_object(members: Iterable[tuple[str, msgspec.Raw]] | RawJsonObject) -> bytes:
    """Return the JSON object with these members."""
    return msgspec.json.encode(dict(members))
