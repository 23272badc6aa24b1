"""A table of shapes and the position: no two tables read the records of one partition."""

from pathlib import Path

import pytest

from normalizer.errors import ShapesChangedError
from normalizer.store.claim import Claim
from normalizer.store.claim_checks import ShapesFingerprint
from normalizer.store.store import Store
from tests.support.doc_pages import blocks
from tests.support.feed import Feed
from tests.support.service_runs import running, until
from tests.support.stack import Database
from tests.support.table_rows import connected, read_position


@pytest.fixture
def table(tmp_path: Path) -> str:
    """The table of the page, in a file."""
    (page,) = blocks("adding-a-shape.md", "toml scheduler.toml")
    path = tmp_path / "scheduler.toml"
    path.write_text(page.text)
    return str(path)


async def test_a_claim_with_another_table_is_rejected_and_fences_nobody(
    store: Store, database: Database
) -> None:
    without, by_table = ShapesFingerprint(), ShapesFingerprint("0123456789abcdef")

    async def claim(shapes: ShapesFingerprint) -> Claim:
        return await store.claim_partition("t", 0, cluster_id="c", log_start=0, shapes=shapes)

    await claim(by_table)
    with pytest.raises(
        ShapesChangedError, match=r"with the table of shapes \w{16}, .* no table of"
    ):
        await claim(without)
    await claim(without._replace(accepted=True))
    with pytest.raises(ShapesChangedError, match=r"with no table of shapes, .* --accept-shapes"):
        await claim(by_table)

    async with connected(database) as connection:
        position = await read_position(connection)
    assert (position["shapes"], position["epoch"]) == ("", 2)


@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_the_service_stops_a_partition_that_another_table_read(
    feed: Feed, table: str
) -> None:
    without = feed.settings()
    by_table = feed.settings(shapes=table)
    await feed.send(range(3))
    await feed.read_to({0: 3}, without)

    await feed.send(range(3, 5))
    async with running(by_table) as stopped:
        await until(lambda: bool(stopped.ownership.stop_reasons_by_partition))
        (why,) = stopped.ownership.stop_reasons_by_partition.values()
        assert (await feed.position())["next_offset"] == 3

    await feed.read_to({0: 5}, by_table, accept_shapes=True)

    assert "its records are read with no table of shapes" in why
    assert "--accept-shapes" in why
