"""Keeps one access token of SASL OAUTHBEARER for all clients of this process.

A thread renews the token well before it expires. So no client has to wait for the authorization
server, and a short outage of that server goes unnoticed.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason

from normalizer.config.settings import Settings
from normalizer.kafka.token_sources import (
    AccessToken,
    TokenUnavailableError,
    request_oauth_token,
    sign_msk_token,
)

_RENEWED_AFTER_SHARE: Final = 0.8
"""Request the next token after this share of the lifetime, so that the old one is still valid."""
_RENEWAL_RETRY_S: Final = 5.0


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """One access token that all clients of this process share.

    Clients may run in different threads and event loops. `generation` counts the tokens that were
    fetched, so that a connection can find out whether it signed in with an older token.
    `is_renewal_due` says when to fetch the next one.
    """

    def __init__(
        self,
        fetch: Callable[[], AccessToken],
        extensions: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._extensions = dict(extensions)
        self._clock = clock
        self._lock = threading.Lock()
        self._text = ""
        self._renew_at_s = self._expires_at_s = self._retry_at_s = 0.0
        self.generation = 0

    async def token(self) -> str:
        """Return a valid token, and fetch one first if the last has expired.

        Raises TokenUnavailableError if that fails.
        """
        if self._clock() >= self._expires_at_s:
            await asyncio.to_thread(self._renew)
        return self._text

    def extensions(self) -> dict[str, str]:
        """Return the SASL extensions that aiokafka sends with the token."""
        return self._extensions

    @property
    def is_renewal_due(self) -> bool:
        """Return whether the token should be renewed now.

        After each call of `renew_in_background`, this is False for 5 seconds. So several requests
        at once don't start several renewals, and a failed renewal is retried only after a pause.
        """
        return self._clock() >= max(self._renew_at_s, self._retry_at_s)

    def renew_in_background(self) -> None:
        """Fetch the next token in a thread. Clients use the present one until then."""
        self._retry_at_s = self._clock() + _RENEWAL_RETRY_S
        asyncio.get_running_loop().run_in_executor(None, self._try_to_renew)

    def _try_to_renew(self) -> None:
        with contextlib.suppress(TokenUnavailableError):  # renew_in_background tries again later
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            begun_s = self._clock()
            if begun_s >= self._renew_at_s:  # otherwise another thread has renewed it already
                self._text, lifetime_s = self._fetch()
                self._renew_at_s = begun_s + _RENEWED_AFTER_SHARE * lifetime_s
                self._expires_at_s = begun_s + lifetime_s
                self.generation += 1
            # The token is new, so the next renewal needs no pause. Keep the pause only if the
            # token's lifetime is so short that it's due for renewal already. Without the pause,
            # every request of a client would then fetch another token.
            if self._clock() < self._renew_at_s:
                self._retry_at_s = 0.0


@cache
def shared_token_provider(settings: Settings) -> TokenProvider:
    """Return the provider for these settings, the same for all clients of the process."""
    fetch: Callable[[], AccessToken] = partial(request_oauth_token, settings)
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        fetch = partial(sign_msk_token, settings.kafka_sasl_aws_region or "")
    pairs = (one.split("=", 1) for one in settings.kafka_sasl_oauthbearer_extensions)
    return TokenProvider(fetch, dict(pairs))


def make_client_renew_connections(client: Any, provider: TokenProvider) -> None:
    """Make a client renew its token and its connections as it sends requests.

    aiokafka signs in only when it opens a connection. If a broker limits sessions
    (connections.max.reauth.ms), it closes a connection at the first request after its token has
    expired, and that request is lost. So once there's a newer token, this replaces each connection
    that still uses an older one, as soon as it has no request in flight. Call it before the client
    is started.
    """
    get_connection = client._get_conn  # noqa: SLF001 - the public API has no access to connections
    generations: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    async def fresh_connection(
        node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, **options: Any
    ) -> Any:
        if provider.is_renewal_due:
            provider.renew_in_background()
        open_one = client._conns.get((node_id, group))  # noqa: SLF001 - as above
        if (
            open_one is not None
            and not open_one._requests  # noqa: SLF001 - as above
            and generations.get(open_one, provider.generation) < provider.generation
        ):
            open_one.close(reason=CloseReason.IDLE_DROP)
        # Read the token's generation before signing in, because another thread may renew the token
        # during the sign-in. The connection then counts as older than it is, and costs one extra
        # sign-in. If the generation were read afterwards, the connection could count as newer than
        # it is, and would keep a token that's about to expire.
        generation = provider.generation
        connection = await get_connection(node_id, group=group, **options)
        if connection is not None:
            generations.setdefault(connection, generation)
        return connection

    client._get_conn = fresh_connection  # noqa: SLF001 - as above
