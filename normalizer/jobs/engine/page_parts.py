"""Splits pages of a source, and turns them into parts of a job's batch.

A source yields pages of any size, but a batch has a limited number of rows, so a page may have to
be split. Each piece also says which offsets it covers, including those without a record. Otherwise
the job's position couldn't advance past such offsets.
"""

from collections.abc import Iterator

import msgspec

from normalizer.core.batch import PartitionBatch, RecordOutcomes, offset_after_records
from normalizer.jobs.sources.history_source import SourcePage


def split_page(page: SourcePage, max_records: int) -> Iterator[SourcePage]:
    """Split the page into pages of at most this many records."""
    while len(page.records) > max_records:
        piece, page = split_page_at(page, max_records)
        yield piece
    yield page


def split_page_at(page: SourcePage, record_count: int) -> tuple[SourcePage, SourcePage]:
    """Return a page with this many records and the holes that follow them, and the rest."""
    boundary = offset_after_records(record_count, page.from_offset, page.holes)
    piece = msgspec.structs.replace(
        page,
        next_offset=boundary,
        records=page.records[:record_count],
        holes=tuple(hole for hole in page.holes if hole[0] < boundary),
    )
    rest = msgspec.structs.replace(
        page,
        from_offset=boundary,
        records=page.records[record_count:],
        holes=tuple(hole for hole in page.holes if hole[0] >= boundary),
    )
    return piece, rest


def to_batch_part(
    page: SourcePage, outcomes: list[RecordOutcomes], *, epoch: int = 0
) -> PartitionBatch:
    """Return the page as a part of a batch, with the outcomes of its records."""
    topic, incarnation, partition = page.part
    return PartitionBatch(
        topic=topic,
        incarnation=incarnation,
        partition=partition,
        epoch=epoch,
        from_offset=page.from_offset,
        next_offset=page.next_offset,
        items=outcomes,
        holes=page.holes,
    )
