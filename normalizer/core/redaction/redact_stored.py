"""Removes from a stored row what today's rules consider a secret.

The row may have been stored before a rule or an operator's word was added. It still has the
producer's values under the producer's keys, so they're treated like those of a record that arrives
today. Ids and times are never secret. Redacting a row twice changes nothing the second time.
"""

from typing import Final

import msgspec

from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.suspicious_parts import parse_whole_json
from normalizer.envelope import Envelope
from normalizer.jsontext import Json, parse_json_keeping_numbers, write_json

_TEXT_COLUMNS: Final = ("event_type", "step", "worker_id", "command_id", "node_type", "error")
_JSON_COLUMNS: Final = ("context", "result", "meta", "coercions")


def may_need_redaction(row: Envelope, sanitizer: Sanitizer) -> bool:
    """Return whether the row must be cleaned. It may say so without need, but misses no secret."""
    documents = (getattr(row, name) for name in (*_JSON_COLUMNS, "extra", "headers"))
    texts = (text.encode() for name in _TEXT_COLUMNS if (text := getattr(row, name)))
    return any(sanitizer.has_sign(part) for part in (*documents, *texts) if part)


def redact_row(row: Envelope, sanitizer: Sanitizer) -> Envelope:
    """Return the row without secrets, or the same object if it has none."""
    fields: dict[str, Json] = {
        name: parse_json_keeping_numbers(value.decode()) if name in _JSON_COLUMNS else value
        for name in (*_TEXT_COLUMNS, *_JSON_COLUMNS)
        if (value := getattr(row, name)) is not None
    }
    changed: dict[str, object] = {}
    for name, kept in _cleaned(fields, sanitizer).items():
        if kept != fields[name]:
            changed[name] = write_json(kept).encode() if name in _JSON_COLUMNS else kept
    if row.extra is not None:
        extra = _object(row.extra)
        # Sanitize `extra` as if it were an event. Without an event_type, the sanitizer could take
        # it for a batch or a wrapper of events, and would skip some of its text. So add an empty
        # event_type first, and remove it afterwards.
        kept = _cleaned({"event_type": "", **extra}, sanitizer)
        if "event_type" not in extra:
            kept.pop("event_type", None)
        if kept != extra:
            changed["extra"] = write_json(kept).encode()
    if row.headers is not None:
        headers = _object(row.headers)
        kept_headers, _ = sanitizer.clean_headers(headers)
        if kept_headers != headers:
            changed["headers"] = write_json(kept_headers).encode()
    return msgspec.structs.replace(row, **changed) if changed else row


def redact_stored_text(text: str, sanitizer: Sanitizer) -> str:
    """Remove secrets from a single text, as if it were under the key `error`."""
    if not sanitizer.has_sign(text.encode()):
        return text
    kept = _cleaned({"event_type": "", "error": text}, sanitizer)["error"]
    return kept if isinstance(kept, str) else text


def _cleaned(fields: dict[str, Json], sanitizer: Sanitizer) -> dict[str, Json]:
    text = write_json(fields)
    kept = sanitizer.clean(text, parse_whole_json(text.encode())).text
    return fields if kept == text else _object(kept.encode())


def _object(document: bytes) -> dict[str, Json]:
    tree = parse_json_keeping_numbers(document.decode())
    assert isinstance(tree, dict)
    return tree
