"""Pages of a source with the outcomes of their records in, one batch of the job out."""

from collections.abc import Iterator, Sequence

import msgspec

from normalizer.core.batch import Batch, Item, PartitionBatch
from normalizer.errors import FatalError
from normalizer.jobs.source import Page, PartKey


def pieces(page: Page, records: int) -> Iterator[Page]:
    """The page cut at record boundaries into pages of so many records at most."""
    while len(page.records) > records:
        piece, page = cut(page, records)
        yield piece
    yield page


def cut(page: Page, records: int) -> tuple[Page, Page]:
    """So many records of the page with the holes before the next one, and the rest."""
    boundary = page.from_offset + records
    for first, after in page.holes:
        if first <= boundary:
            boundary += after - first
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


class Filling:
    """A batch while it fills: counts records, rows (outcomes) and bytes (of values)."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._stretches: dict[PartKey, _Stretch] = {}
        self.records = 0
        self.rows = 0
        self.value_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._stretches)

    def add(self, page: Page, items: Sequence[Item]) -> None:
        """Add a page, which must follow the last one of its part."""
        stretch = self._stretches.setdefault(
            page.part, _Stretch(page.from_offset, page.from_offset)
        )
        if stretch.next_offset != page.from_offset:
            raise FatalError(
                f"{page.part[0]}: the batch ends at {stretch.next_offset}, "
                f"the next page begins at {page.from_offset}"
            )
        stretch.items.extend(items)
        stretch.holes.extend(page.holes)
        stretch.next_offset = page.next_offset
        self.records += len(items)
        self.rows += sum([len(outcomes) for _, outcomes in items])
        self.value_bytes += sum([len(record.value or b"") for record, _ in items])

    def sealed(self) -> Batch:
        """What was added, ready to be written."""
        return Batch(
            parts=tuple(
                PartitionBatch(
                    topic=topic,
                    generation=generation,
                    partition=partition,
                    epoch=self._epoch,
                    from_offset=stretch.from_offset,
                    next_offset=stretch.next_offset,
                    items=stretch.items,
                    holes=tuple(stretch.holes),
                )
                for (topic, generation, partition), stretch in sorted(self._stretches.items())
            )
        )


class _Stretch(msgspec.Struct):
    from_offset: int
    next_offset: int
    items: list[Item] = []
    holes: list[tuple[int, int]] = []
