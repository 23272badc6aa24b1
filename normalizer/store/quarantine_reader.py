"""Shows rejected records to an operator: in the log, in a list, or one complete record.

The table `quarantine` stores a sample of each record, from which secrets were removed. The full
bytes are in a separate table, and secrets are removed from them when they're shown, unless the
operator passes --raw.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from normalizer.core.decode.headers import header_text
from normalizer.core.decode.rejected_sample import BASE64_DATA_KEY
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.unstorable import replace_unstorable
from normalizer.errors import ConfigurationError
from normalizer.jsontext import parse_json_keeping_numbers
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.read_only import read_only_connection

_LOG_LINE_EVERY_S: Final = 10.0
"""The log gets at most one line about rejections in this time."""
_SHOWN_CONTENT_CHARS: Final = 4_000
"""How much of a redacted content to show."""

_LIST: Final = """
    select   quarantine_id, quarantined_at, reason, detail, sqlstate, shape, normalizer_version,
             source_topic, source_incarnation, source_partition, source_offset, source_index,
             value_bytes, recorded_at, redriven_at
    from     normalizer.quarantine
    where    ($1::text is null or reason = $1::text)
    and      ($5::boolean or redriven_at is null)
    and      ($2::text is null or source_topic = $2::text)
    and      ($3::bigint is null or quarantine_id = $3::bigint)
    order by quarantined_at desc, quarantine_id desc
    limit    $4::integer
"""

_RAW: Final = """
    select key, value, headers::text as headers, encode(value_sha256, 'hex') as sha256, whole
    from   normalizer.quarantine_raw
    where  (source_topic, source_incarnation, source_partition, source_offset)
         = ($1::text, $2::integer, $3::integer, $4::bigint)
"""


class QuarantineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected record, or one rejected event of a record."""

    quarantine_id: int
    quarantined_at: datetime
    reason: str
    detail: str
    sqlstate: str | None
    shape: str
    normalizer_version: int
    source_topic: str
    source_incarnation: int
    source_partition: int
    source_offset: int
    source_index: int
    value_bytes: int
    recorded_at: datetime | None
    redriven_at: datetime | None

    @property
    def coordinates_text(self) -> str:
        """Return topic:partition:offset, as `normalizer explain` takes it."""
        return f"{self.source_topic}:{self.source_partition}:{self.source_offset}"


class RejectedRecordBytes(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a rejected record.

    If `whole` is False, only the first bytes of the value are stored.
    """

    key: bytes | None
    value: bytes | None
    headers: str | None
    sha256: str
    whole: bool


async def list_quarantine_entries(
    database_url: str,
    *,
    reason: str | None = None,
    topic: str | None = None,
    redriven: bool = False,
    limit: int = 50,
) -> list[QuarantineEntry]:
    """Return the latest rejections, newest first. With `redriven`, also those that were redriven.

    Raises StoreUnavailableError and FatalError.
    """
    async with read_only_connection(database_url) as connection:
        rows = await connection.fetch(_LIST, reason, topic, None, limit, redriven)
    return [QuarantineEntry(**row) for row in rows]


async def read_quarantine_entry(
    database_url: str, quarantine_id: int
) -> tuple[QuarantineEntry, RejectedRecordBytes | None]:
    """Return one rejection and its bytes, which are None if retention has deleted them.

    Raises ConfigurationError if there's no such rejection.
    """
    async with read_only_connection(database_url) as connection:
        rows = await connection.fetch(_LIST, None, None, quarantine_id, 1, True)
        if not rows:
            raise ConfigurationError(
                f"quarantine {quarantine_id}: there is no entry with this id. `normalizer "
                "quarantine list` prints the ids of all entries"
            )
        entry = QuarantineEntry(**rows[0])
        raw = await connection.fetchrow(
            _RAW,
            entry.source_topic,
            entry.source_incarnation,
            entry.source_partition,
            entry.source_offset,
        )
    return entry, RejectedRecordBytes(**raw) if raw else None


def format_quarantine_table(entries: Iterable[QuarantineEntry]) -> str:
    """Format one line per rejection."""
    return "\n".join(
        f"{entry.quarantine_id:>8}  {entry.quarantined_at:%Y-%m-%d %H:%M:%S}  "
        f"{entry.reason:<21} {entry.coordinates_text}  {entry.detail}"
        + (f"; redriven {entry.redriven_at:%Y-%m-%d %H:%M:%S}" if entry.redriven_at else "")
        for entry in entries
    )


def format_quarantine_entry(
    entry: QuarantineEntry,
    kept: RejectedRecordBytes | None,
    *,
    raw: bool,
    redact_keys: Iterable[str] = (),
) -> str:
    """Format everything about one rejection. Its content is redacted unless `raw`."""
    lines = [
        ("quarantine", str(entry.quarantine_id)),
        ("record", f"{entry.coordinates_text} (incarnation {entry.source_incarnation})"),
        ("event in it", str(entry.source_index)),
        ("reason", entry.reason),
        ("detail", entry.detail),
        ("sqlstate", entry.sqlstate or ""),
        ("shape", entry.shape or "not recognized"),
        ("rules", f"version {entry.normalizer_version}"),
        ("recorded at", str(entry.recorded_at or "")),
        ("rejected at", str(entry.quarantined_at)),
        ("redriven at", str(entry.redriven_at or "")),
        ("value", f"{entry.value_bytes} bytes"),
    ]
    if kept is None:
        lines.append(("content", "deleted by retention"))
    else:
        lines.append(("sha256", kept.sha256))
        lines += _content(kept, raw=raw, redact_keys=redact_keys)
    return "\n".join(f"{name:<12} {text}" for name, text in lines if text)


def _content(
    kept: RejectedRecordBytes, *, raw: bool, redact_keys: Iterable[str]
) -> list[tuple[str, str]]:
    if raw:
        parts = [("key", _shown(kept.key)), ("headers", kept.headers or "")]
        more = "" if kept.whole else " (only the beginning was kept)"
        return [*parts, (f"content{more}", _shown(kept.value))]
    if kept.value is None:
        return []
    try:
        text = kept.value.decode()
        tree = parse_json_keeping_numbers(text)
    except (ValueError, RecursionError):
        return [("content", "not shown, because only JSON can be redacted (--raw shows it)")]
    if isinstance(tree, dict) and BASE64_DATA_KEY.decode() in tree:
        return [("content", "not shown, because base64 can't be redacted (--raw shows it)")]
    text_shown = replace_unstorable(Sanitizer(redact_keys).clean(text, tree).text)
    if len(text_shown) > _SHOWN_CONTENT_CHARS:
        text_shown = (
            f"{text_shown[:_SHOWN_CONTENT_CHARS]} ... ({len(text_shown)} letters; --raw shows all)"
        )
    return [("content", text_shown)]


def _shown(content: bytes | None) -> str:
    return "null" if content is None else header_text(content)


class RejectionLogger:
    """Logs new rejections, at most one line per ten seconds.

    A line has the number of rejections for each reason, and one example.
    """

    def __init__(
        self, logger: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = logger
        self._clock = clock
        self._logged_at_s = -_LOG_LINE_EVERY_S
        self._reasons: Counter[str] = Counter()
        self._example: dict[str, object] = {}

    def count_rejections(self, committed: CommittedBatch) -> None:
        """Count the new rejections of a batch, and log the counts if the last line is 10 s old."""
        for (record, rejected), is_new in zip(
            committed.rejections, committed.newly_quarantined, strict=True
        ):
            if is_new:
                self._reasons[rejected.reason] += 1
                self._example = self._example or {
                    "record": record.coordinates_text,
                    "execution_id": _execution_in_key(record.key),
                    "detail": rejected.detail,
                }
        if self._clock() - self._logged_at_s >= _LOG_LINE_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Log the counts, if there are any."""
        if not self._reasons:
            return
        self._log.warning("record.rejected", reasons=dict(self._reasons), first=self._example)
        self._logged_at_s = self._clock()
        self._reasons.clear()
        self._example = {}


def _execution_in_key(key: bytes | None) -> str | None:
    """Return the execution id in a record's key.

    Any other key may hold content, which isn't logged.
    """
    text = (key or b"")[:20]
    return text.decode() if text.isdigit() else None
