"""`Store.write` gives a batch up after a number of transactions, whatever each of them achieved."""

import asyncio

import pytest

from normalizer.errors import StoreUnavailableError
from normalizer.store.batch_plan import BatchWriteState
from normalizer.store.store import Store
from tests.support.factories import envelope, make_batch


async def test_a_batch_whose_stored_rows_always_need_another_update_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller backs off then. Otherwise the store would run transactions without a pause."""
    store = Store("postgresql://nobody@localhost/none", owner="owner")

    async def only_update(*_: object) -> BatchWriteState:
        await asyncio.sleep(0)
        return BatchWriteState()

    monkeypatch.setattr(store._session, "run_in_transaction", only_update)

    with pytest.raises(StoreUnavailableError, match="in 20 rounds"):
        async with asyncio.timeout(5):
            await store.write(make_batch(envelope()))
