"""Statements that are cut until they end within their limit."""

from collections.abc import Sequence

import asyncpg
import pytest

from projector.chunks import ChunkRunner


def make_chunks(most_failures: float) -> ChunkRunner:
    return ChunkRunner(size=16, most=16, target_s=1, most_failures=most_failures)


async def test_an_item_that_fails_alone_is_named_and_the_others_are_done() -> None:
    done: list[int] = []

    async def work(chunk: Sequence[int]) -> None:
        if 3 in chunk or 9 in chunk:
            raise asyncpg.QueryCanceledError
        done.extend(chunk)

    named = [one async for one in make_chunks(2).run_yielding_failures(range(12), work)]

    assert named == [3, 9]
    assert done == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]


async def test_where_no_item_is_the_cause_the_work_has_failed() -> None:
    tried: list[Sequence[int]] = []

    async def work(chunk: Sequence[int]) -> None:
        tried.append(chunk)
        raise asyncpg.QueryCanceledError

    with pytest.raises(asyncpg.QueryCanceledError):
        _ = [one async for one in make_chunks(3).run_yielding_failures(range(1000), work)]

    assert tried == [range(16), range(4), *(range(n, n + 1) for n in range(3))]
