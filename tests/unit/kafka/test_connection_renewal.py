"""A token is shared and renewed in time, and connections follow it between two requests."""

import asyncio
from functools import partial
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup

from normalizer.kafka.access_tokens import TokenProvider, make_client_renew_connections
from normalizer.kafka.token_sources import AccessToken, TokenUnavailableError
from tests.support.waiting import until


class Issuer:
    """Issues tokens named by their number, valid for `lifetime_s` of its own clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lifetime_s = 100.0
        self.issued = 0
        self.is_away = False
        self.provider = TokenProvider(self.issue, {}, clock=lambda: self.now_s)

    def issue(self) -> AccessToken:
        if self.is_away:
            raise TokenUnavailableError("away", "wait")
        self.issued += 1
        return AccessToken(f"token {self.issued}", self.lifetime_s)


async def test_one_token_serves_all_clients_until_it_expires() -> None:
    issuer = Issuer()

    tokens = await asyncio.gather(*(issuer.provider.token() for _ in range(5)))
    issuer.now_s = 100
    later = await issuer.provider.token()

    assert {*tokens} == {"token 1"}
    assert later == "token 2"


async def test_a_renewal_that_fails_keeps_the_token_and_is_tried_again() -> None:
    issuer = Issuer()
    await issuer.provider.token()

    issuer.now_s, issuer.is_away = 80, True
    was_due = issuer.provider.is_renewal_due
    issuer.provider._try_to_renew()
    kept = await issuer.provider.token()
    issuer.now_s = 100
    with pytest.raises(TokenUnavailableError):
        await issuer.provider.token()

    assert (was_due, kept) == (True, "token 1")


async def test_a_token_is_due_after_four_fifths_of_its_life_and_renewed_once() -> None:
    issuer = Issuer()
    await issuer.provider.token()

    issuer.now_s = 79
    early = issuer.provider.is_renewal_due
    issuer.now_s = 80
    due = issuer.provider.is_renewal_due
    issuer.provider._try_to_renew()
    issuer.provider._try_to_renew()

    assert (early, due, issuer.provider.is_renewal_due) == (False, True, False)
    assert issuer.issued == 2


@pytest.mark.parametrize(
    ("lifetime_s", "due_at_s"),
    [(5.0, 8.0), (1.0, 4.8), (0.0, 9.0)],
    ids=["seconds", "a second", "none: one token each RETRY_S"],
)
async def test_a_token_that_lives_for_seconds_is_due_in_time_after_it_was_renewed(
    lifetime_s: float, due_at_s: float
) -> None:
    issuer = Issuer()
    issuer.lifetime_s = 5.0
    await issuer.provider.token()

    issuer.now_s, issuer.lifetime_s = 4.0, lifetime_s
    await renewed(issuer.provider)
    issuer.now_s = due_at_s - 0.1
    early = issuer.provider.is_renewal_due
    issuer.now_s = due_at_s

    assert (early, issuer.provider.is_renewal_due) == (False, True)


async def renewed(provider: TokenProvider) -> None:
    """Renew the token in the background, and wait until that is over."""
    before = provider.generation

    async def is_newer() -> bool:
        return provider.generation > before

    provider.renew_in_background()
    await until(is_newer)
    with provider._lock:
        pass  # its thread has noted the success


class Connection:
    def __init__(self) -> None:
        self.is_open = True
        self._requests: list[object] = []

    def close(self, reason: object = None) -> None:
        del reason
        self.is_open = False


class Client:
    """Opens a connection where none is open, like the client that it stands for."""

    def __init__(self) -> None:
        self._conns: dict[Any, Connection] = {}

    async def _get_conn(self, node_id: int, *, group: object = ConnectionGroup.DEFAULT) -> object:
        found = self._conns.get((node_id, group))
        if found is None or not found.is_open:
            found = self._conns[node_id, group] = Connection()
        return found


async def test_a_connection_is_replaced_once_a_newer_token_is_there() -> None:
    issuer, client = Issuer(), Client()
    make_client_renew_connections(client, issuer.provider)
    await issuer.provider.token()

    first = await client._get_conn(1)
    again = await client._get_conn(1)
    issuer.now_s = 80
    issuer.provider._try_to_renew()
    replaced = await client._get_conn(1)
    stays = await client._get_conn(1)

    assert first is again
    assert replaced is not first
    assert stays is replaced


async def test_a_connection_with_a_request_under_way_is_left_alone() -> None:
    issuer, client = Issuer(), Client()
    make_client_renew_connections(client, issuer.provider)
    await issuer.provider.token()
    first: Any = await client._get_conn(1)

    issuer.now_s = 80
    issuer.provider._try_to_renew()
    first._requests.append("a fetch")
    busy = await client._get_conn(1)
    first._requests.clear()
    idle = await client._get_conn(1)

    assert busy is first
    assert idle is not first


async def test_a_request_does_not_wait_for_the_renewal_of_the_token() -> None:
    issuer, client = Issuer(), Client()
    make_client_renew_connections(client, issuer.provider)
    await issuer.provider.token()
    first = await client._get_conn(1)

    issuer.now_s = 80
    with issuer.provider._lock:  # as a server does that takes long to answer
        at_once = await client._get_conn(1)

    assert at_once is first
    await until(partial(client._get_conn, 1), is_so=lambda found: found is not first)
