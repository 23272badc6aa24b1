"""Finds the spans that produced the records of a batch, so that the batch's span can link to them.

A producer that traces its work sends the id of its span in each record, in the header
`traceparent`.
"""

from collections import Counter
from collections.abc import Iterator

from opentelemetry.trace import Link, SpanContext, TraceFlags

from normalizer.core.batch import Batch
from normalizer.core.decode.headers import TRACEPARENT_PATTERN, header_text
from normalizer.core.raw_record import RawRecord


def choose_producer_span_links(batch: Batch, limit: int | None) -> tuple[list[Link], int]:
    """Return links to the spans that produced a batch's records, and how many didn't fit.

    If there are more than `limit` spans, sampled ones come first, because a span that wasn't
    sampled can't be looked up. Among these, every trace gets one link before any trace gets a
    second.
    """
    found: dict[tuple[str, str], tuple[bool, RawRecord]] = {}
    for part in batch.parts:
        for record, _ in part.items:
            for trace, span, flags in _sent_spans(record):
                sampled = bool(int(flags, 16) & TraceFlags.SAMPLED)
                found.setdefault((trace, span), (sampled, record))
    chosen = list(found)
    if limit is not None and len(found) > limit:
        spans_by_trace: Counter[str] = Counter()
        rank = {}
        for trace, span in found:
            rank[trace, span] = (not found[trace, span][0], spans_by_trace[trace])
            spans_by_trace[trace] += 1
        chosen = sorted(found, key=rank.__getitem__)[:limit]
    links = [_link(trace, span, *found[trace, span]) for trace, span in chosen]
    return links, len(found) - len(links)


def _sent_spans(record: RawRecord) -> Iterator[tuple[str, str, str]]:
    """Yield trace, span, and flags of the header that the row's `trace_id` comes from."""
    for name, value in record.headers:
        if value is not None and name.lower() == "traceparent":
            match = TRACEPARENT_PATTERN.fullmatch(header_text(value))
            if match:
                yield match[1], match[2], match[3]
                return


def _link(trace: str, span: str, sampled: bool, record: RawRecord) -> Link:  # noqa: FBT001 - a pair's part
    context = SpanContext(
        int(trace, 16),
        int(span, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT),
    )
    return Link(
        context,
        {
            "messaging.destination.name": record.topic or "",
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        },
    )
