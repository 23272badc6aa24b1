"""Renormalizes one stored row with today's rules, in memory. Its ids and coordinates stay the same.

`renormalize` and the dry run of a backfill use it. A row holds everything that the producer sent,
so Kafka isn't needed to rebuild the event.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from normalizer.core.coercions import read_coercion
from normalizer.core.decode.decode_json import UTF8_BOM
from normalizer.core.identity.merge_flags import CHANGED_AFTER_STORING_FLAG
from normalizer.core.raw_record import RawRecord
from normalizer.core.rebuild_record import rebuild_record
from normalizer.envelope import Envelope, Normalized, Rejected, canonical_json
from normalizer.jobs.dry_run.diff import find_changed_fields

_IMMUTABLE_FIELDS: Final = (
    *("event_id", "execution_id", "source_topic", "source_incarnation"),
    *("source_partition", "source_offset", "source_index", "merge_flags"),
)
"""The row's keys, the coordinates of its record, and how it was merged. No rule ever changes these.
"""

_STORE_COERCION_RULES: Final = frozenset(("event_id_conflict", "ambiguous_report"))

_object: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
)
_list: Final[msgspec.json.Decoder[list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw])


class RewriteFailure(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why today's rules give no row with the same keys.

    The stored row stays as it is.
    """

    reason: str
    detail: str


def renormalize_row(
    row: Envelope, normalize: Callable[[RawRecord], tuple[Normalized, ...]]
) -> Envelope | RewriteFailure:
    """Return the row that today's rules give for the event of a stored row.

    A row that was merged from several reports doesn't hold them separately, so they can't be merged
    again by today's rules. If today's rules would change such a row, the result is RewriteFailure.
    """
    record = rebuild_record(row)
    match normalize(record):
        case (Envelope() as event,):
            pass
        case (Rejected() as rejected,):
            return RewriteFailure(reason=rejected.reason, detail=rejected.detail)
        case outcomes:
            return RewriteFailure(
                reason="not_one_event", detail=f"today's rules find {len(outcomes)} events in it"
            )
    if event.execution_id != row.execution_id:
        return RewriteFailure(
            reason="key_changes", detail="today's rules give it another execution_id"
        )
    kept = {name: getattr(row, name) for name in _IMMUTABLE_FIELDS}
    today = msgspec.structs.replace(
        event,
        extra=_with_other_values(event.extra, row.extra, record),
        coercions=_with_other_coercions(event.coercions, row.coercions, record),
        **kept,
    )
    if row.merge_flags & CHANGED_AFTER_STORING_FLAG and find_changed_fields(row, today):
        # This row was merged from several records, but the event was rebuilt from only one of them.
        # If it differs from the row, either the rules have changed, or another record sent the
        # missing value. Nothing tells these cases apart, so leave the row as it is.
        return RewriteFailure(
            reason="merged_row",
            detail="merged from several records, so today's rules can't be applied to it",
        )
    return today


# A merged row is rebuilt from one of its records. The rebuilt event lacks the values that only
# other records sent, and the coercions that the store recorded, for example when it gave the row
# another id. The functions below copy both from the stored row.


def _with_other_values(
    extra: bytes | None, stored: bytes | None, record: RawRecord
) -> bytes | None:
    if stored is None:
        return extra
    made = {} if extra is None else _object.decode(extra)
    for name, value in _object.decode(stored).items():
        if name not in made and not _has_value(record, [name], value):
            made[name] = value
    return msgspec.json.encode(made) if made else None


def _with_other_coercions(
    coercions: bytes | None, stored: bytes | None, record: RawRecord
) -> bytes | None:
    if stored is None:
        return coercions
    made = {} if coercions is None else {_canonical(each): each for each in _list.decode(coercions)}
    for each in _list.decode(stored):
        coercion = read_coercion(each)
        if coercion.rule in _STORE_COERCION_RULES or (
            coercion.original
            and not _has_value(record, coercion.field.split("."), coercion.original)
        ):
            made.setdefault(_canonical(each), each)
    return msgspec.json.encode(list(made.values())) if made else None


def _canonical(raw: msgspec.Raw) -> bytes:
    return canonical_json(bytes(raw))


def _has_value(record: RawRecord, path: list[str], original: msgspec.Raw) -> bool:
    """Return whether the rebuilt record has this value at this path."""
    value: Any = msgspec.Raw((record.value or b"null").removeprefix(UTF8_BOM))
    for name in path:
        try:
            value = _object.decode(value).get(name, msgspec.Raw(b"null"))
        except msgspec.MsgspecError:
            return False
    try:
        return _canonical(value) == _canonical(original)
    except ValueError:  # the rebuilt record may hold text that no row can store
        return False
