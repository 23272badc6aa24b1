"""Collects pages of a source, with the outcomes of their records, into one batch of the job."""

from collections.abc import Iterator, Sequence

import msgspec

from normalizer.core.batch import Batch, Item, PartitionBatch, offset_after
from normalizer.errors import FatalError
from normalizer.jobs.sources.source import PartKey, SourcePage


def split_page(page: SourcePage, records: int) -> Iterator[SourcePage]:
    """Split the page at record boundaries into pages of at most this many records."""
    while len(page.records) > records:
        piece, page = cut_page(page, records)
        yield piece
    yield page


def cut_page(page: SourcePage, records: int) -> tuple[SourcePage, SourcePage]:
    """Return a page of that many records, with the holes before the next one, and the rest."""
    boundary = offset_after(records, page.from_offset, page.holes)
    piece = msgspec.structs.replace(
        page,
        next_offset=boundary,
        records=page.records[:records],
        holes=tuple(hole for hole in page.holes if hole[0] < boundary),
    )
    rest = msgspec.structs.replace(
        page,
        from_offset=boundary,
        records=page.records[records:],
        holes=tuple(hole for hole in page.holes if hole[0] >= boundary),
    )
    return piece, rest


class JobBatchBuilder:
    """Collects one batch; counts records, rows (outcomes) and bytes (of values)."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._parts: dict[PartKey, _PartItems] = {}
        self.records = 0
        self.rows = 0
        self.value_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, page: SourcePage, items: Sequence[Item]) -> None:
        """Add a page, which must follow the last one of its part."""
        part_items = self._parts.setdefault(
            page.part, _PartItems(page.from_offset, page.from_offset)
        )
        if part_items.next_offset != page.from_offset:
            raise FatalError(
                f"{page.part[0]}: the batch ends at {part_items.next_offset}, "
                f"the next page begins at {page.from_offset}"
            )
        part_items.items.extend(items)
        part_items.holes.extend(page.holes)
        part_items.next_offset = page.next_offset
        self.records += len(items)
        self.rows += sum([len(outcomes) for _, outcomes in items])
        self.value_bytes += sum([len(record.value or b"") for record, _ in items])

    def build(self) -> Batch:
        """Return the batch, ready to be written."""
        return Batch(
            parts=tuple(
                PartitionBatch(
                    topic=topic,
                    incarnation=incarnation,
                    partition=partition,
                    epoch=self._epoch,
                    from_offset=part_items.from_offset,
                    next_offset=part_items.next_offset,
                    items=part_items.items,
                    holes=tuple(part_items.holes),
                )
                for (topic, incarnation, partition), part_items in sorted(self._parts.items())
            )
        )


class _PartItems(msgspec.Struct):
    from_offset: int
    next_offset: int
    items: list[Item] = []
    holes: list[tuple[int, int]] = []
