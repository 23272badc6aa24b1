"""Merges two reports of one event into one row, column by column.

Merging is commutative, associative, and idempotent. So records may arrive in any order, more than
once, and in any batches, and the row's content is still the same. Only three things depend on the
order:

- the row's coordinates, which are those of the report that was read first,
- CHANGED_AFTER_STORING_FLAG, which is set only if a later report changed the row,
- REPORTED_ELSEWHERE_FLAG, but only if a file is read before its topic, if one of two reports is
  redriven after the other, or if reports have no record time. For example, the topic's report sets
  the flag of a file's row, but the file's report doesn't set the flag of the topic's row.

It compares JSON values by their digests, so it never decodes a large value. Source:
docs/spec/wire-shapes.md#m4, #v3.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import msgspec

from normalizer.core.evidence import TIME_FROM_ID, Evidence, EvidenceRank
from normalizer.core.identity.conflicts import (
    PAYLOAD_COLUMNS,
    SCALAR_COLUMNS,
    LosingValues,
    RawJsonObject,
    ValuesByDigest,
    decode_json_object,
    digest_sort_key,
    encode_json_object,
    losing_values,
    to_jsonb_text,
)
from normalizer.core.identity.coordinates import source_coordinates
from normalizer.core.identity.digests import DigestCache, digest_jsonb_text, sha256_from_digest
from normalizer.core.identity.merge_flags import (
    CHANGED_AFTER_STORING_FLAG,
    HAS_RIVAL_FLAG,
    REPORT_WITHOUT_COMMAND_FLAG,
    REPORT_WITHOUT_STEP_FLAG,
    REPORTED_ELSEWHERE_FLAG,
    missing_name_flags,
    row_with_flags,
)
from normalizer.core.rules.event_types import CALL_EVENT_CLASSES, event_class
from normalizer.envelope import Envelope

_OBJECTS: Final[tuple[str, ...]] = ("meta", "extra", "headers")
_JSON: Final = (*PAYLOAD_COLUMNS, *_OBJECTS, "coercions")

_list_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def merge(stored: Envelope, report: Envelope, digests: DigestCache) -> Envelope:
    """Merge the report into the row, or return `stored` itself if the report adds nothing.

    The merged row keeps the id and the coordinates of `stored`, because the row was counted under
    these coordinates when it was first stored. JSON values are compared by their digests, so the
    result may be wrong if one wasn't in `digests`. Ask `digests` for missing values afterwards. If
    there are any, load their digests and merge again.
    """
    losing = LosingValues(stored, report, digests)
    evidence, reported = Evidence.unpack(stored.evidence), Evidence.unpack(report.evidence)
    fields: dict[str, Any] = {
        column: _higher_ranked(column, ranks, stored, report, losing)
        for column, *ranks in zip(Evidence._fields, evidence, reported, strict=True)
    }
    fields["evidence"] = evidence.max_per_column(reported).pack()
    for column in SCALAR_COLUMNS:
        mine, theirs = getattr(stored, column), getattr(report, column)
        if mine != theirs:
            fields[column] = _greater_value(column, mine, theirs, losing)
    for column in PAYLOAD_COLUMNS:
        fields[column] = _greater_json(
            column, getattr(stored, column), getattr(report, column), losing
        )
    fields["meta"] = _merge_meta(stored, report, fields["attempts"], losing)
    fields["headers"] = _merge_objects("headers", stored.headers, report.headers, losing)
    fields["coercions"] = _merge_lists(stored.coercions, report.coercions, digests)
    fields["shape"] = _greater_shape(stored.shape, report.shape)
    fields["normalizer_version"] = min(stored.normalizer_version, report.normalizer_version)
    fields["recorded_at"] = _earlier(stored.recorded_at, report.recorded_at)
    extra = _merge_objects("extra", *losing.extras, losing)
    fields["extra"] = losing.extra_with_losers(extra, stored, fields)
    changed = {name: value for name, value in fields.items() if value != getattr(stored, name)}
    row = msgspec.structs.replace(stored, **changed) if changed else stored
    merged = row_with_flags(row, _flags(stored, report, row))
    if merged is not stored:
        merged = row_with_flags(merged, CHANGED_AFTER_STORING_FLAG)
    return (
        row_with_flags(merged, REPORTED_ELSEWHERE_FLAG) if _is_elsewhere(stored, report) else merged
    )


def request_needed_digests(reports: Sequence[Envelope], digests: DigestCache) -> None:
    """Request nearly every digest that merging a row needs, so that one query loads them."""
    sent = {column: [getattr(report, column) for report in reports] for column in _JSON}
    compared: defaultdict[str, list[bytes | None]] = defaultdict(list)
    for column in PAYLOAD_COLUMNS:
        compared[column] += sent[column]
    for column in _OBJECTS:
        for sent_object in _differing(sent[column]):
            for key, member in decode_json_object(sent_object).items():
                compared[f"{column}.{key}"].append(bytes(member))
    # Values that lost in an earlier merge need digests too. Merging compares them with the winner,
    # even if all reports are equal.
    for name, value in chain.from_iterable(map(losing_values, reports)):
        compared[name].append(value)
        digests.digest_or_placeholder(value)
    for value in chain.from_iterable(map(_differing, compared.values())):
        digests.digest_or_placeholder(value)
    for entries in _differing(sent["coercions"]):
        _entries(entries, digests)


def _differing(values: list[bytes | None]) -> Iterable[bytes]:
    """Return the different values if there are several. Absent and null ones need no digest."""
    if values.count(values[0]) == len(values):
        return ()
    different = dict.fromkeys(value for value in values if value not in (None, b"null"))
    return different if len(different) > 1 else ()


def _flags(stored: Envelope, report: Envelope, row: Envelope) -> int:
    """Return the flags to set for two reports and their row."""
    flags = report.merge_flags & ~(CHANGED_AFTER_STORING_FLAG | REPORTED_ELSEWHERE_FLAG)
    lacking = missing_name_flags(stored) | missing_name_flags(report)
    if row.step:
        flags |= lacking & REPORT_WITHOUT_STEP_FLAG
    if row.command_id is not None:
        flags |= lacking & REPORT_WITHOUT_COMMAND_FLAG
    if stored.step and report.step and stored.step != report.step:
        flags |= HAS_RIVAL_FLAG
    return flags


def _is_elsewhere(stored: Envelope, report: Envelope) -> bool:
    """Return whether an event of a call is reported in another log, or before its row's record."""
    if event_class(stored.event_type) not in CALL_EVENT_CLASSES:
        return False
    # A job read this report from a file, so it has no offset that could be compared. Only its own
    # flags tell whether the event was reported elsewhere.
    if report.recorded_at is None:
        return report.merge_flags & REPORTED_ELSEWHERE_FLAG != 0
    *log, offset, index = source_coordinates(stored)
    *other_log, other_offset, other_index = source_coordinates(report)
    return (
        report.merge_flags & REPORTED_ELSEWHERE_FLAG != 0
        or log != other_log
        or (other_offset, other_index) < (offset, index)
    )


def _higher_ranked(
    column: str,
    ranks: Sequence[EvidenceRank],
    stored: Envelope,
    report: Envelope,
    losing: LosingValues,
) -> Any:
    """Return the value with the stronger evidence: declared, then derived, then defaulted.

    If the evidence is equal, it returns the greater value.
    """
    mine, theirs = getattr(stored, column), getattr(report, column)
    if mine == theirs or theirs is None:
        return mine
    if mine is None:
        return theirs
    a, b = to_jsonb_text(mine), to_jsonb_text(theirs)
    wins = (ranks[0], a) > (ranks[1], b)
    rank, canonical = (ranks[1], b) if wins else (ranks[0], a)
    if rank and not (column == "created_at" and rank == TIME_FROM_ID):
        losing.add(column, canonical, digest_jsonb_text(canonical))
    return mine if wins else theirs


def _greater_value(column: str, a: Any, b: Any, losing: LosingValues) -> Any:
    """Return the greater value by bytes, and store the other.

    An absent value or '' always loses.
    """
    if b in (None, ""):
        return a
    if a in (None, ""):
        return b
    mine, theirs = to_jsonb_text(a), to_jsonb_text(b)
    loser = min(mine, theirs)
    losing.add(column, loser, digest_jsonb_text(loser))
    return a if mine >= theirs else b


def _greater_json(
    column: str, a: bytes | None, b: bytes | None, losing: LosingValues
) -> bytes | None:
    """Return the greater of two JSON values. Absent and null lose.

    Payloads are compared by hash.
    """
    if a == b or b in (None, b"null"):
        return a or b
    if a in (None, b"null"):
        return b
    assert a is not None
    assert b is not None
    mine, theirs = losing.digests.digest_or_placeholder(a), losing.digests.digest_or_placeholder(b)
    if mine == theirs:
        return a
    by = sha256_from_digest if column in PAYLOAD_COLUMNS else digest_sort_key
    if by(mine) > by(theirs):
        losing.add(column, b, theirs)
        return a
    losing.add(column, a, mine)
    return b


def _merge_objects(
    column: str, a: bytes | None, b: bytes | None, losing: LosingValues
) -> bytes | None:
    """Merge two objects key by key. Returns `a` itself if `b` adds nothing."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    merged = decode_json_object(a)
    return (
        encode_json_object(merged)
        if _merge_members(merged, column, decode_json_object(b), losing)
        else a
    )


def _merge_members(
    mine: RawJsonObject, column: str, theirs: RawJsonObject, losing: LosingValues
) -> bool:
    """Merge the second object into the first. Returns whether that changed the first."""
    changed = False
    for key, value in theirs.items():
        before = mine.get(key)
        if before is None:
            mine[key] = value
            changed = True
        elif before != value:
            own = bytes(before)
            winner = _greater_json(f"{column}.{key}", own, bytes(value), losing) or b"null"
            if winner != own:
                mine[key] = msgspec.Raw(winner)
                changed = True
    return changed


def _merge_meta(stored: Envelope, report: Envelope, attempts: int, losing: LosingValues) -> bytes:
    """Merge two metas as objects. `attempts` is the value of the merged column."""
    if stored.meta == report.meta and stored.attempts == report.attempts:
        return stored.meta
    mine, theirs = decode_json_object(stored.meta), decode_json_object(report.meta)
    written = msgspec.Raw(b"%d" % attempts)
    before = mine.pop("attempts", None)
    theirs.pop("attempts", None)
    if not _merge_members(mine, "meta", theirs, losing) and before == written:
        return stored.meta
    mine["attempts"] = written
    return encode_json_object(mine)


def _merge_lists(a: bytes | None, b: bytes | None, digests: DigestCache) -> bytes | None:
    """Return the union of two lists without duplicates, with the shortest entry first."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    mine, theirs = _entries(a, digests), _entries(b, digests)
    if theirs.keys() <= mine.keys():
        return a
    entries = theirs | mine
    return b"[" + b",".join(entries[digest] for digest in sorted(entries)) + b"]"


def _entries(value: bytes, digests: DigestCache) -> ValuesByDigest:
    return {
        digests.digest_or_placeholder(raw): raw for raw in map(bytes, _list_decoder.decode(value))
    }


def _greater_shape(a: str, b: str) -> str:
    known = [shape for shape in (a, b) if shape != "unknown"]
    return max(known, default="unknown")


def _earlier(a: datetime | None, b: datetime | None) -> datetime | None:
    return min((time for time in (a, b) if time is not None), default=None)
