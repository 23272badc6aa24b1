"""Keeps the access token of SASL OAUTHBEARER, one for all clients of this process."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Final

from aiokafka.abc import AbstractTokenProvider

from normalizer.kafka.token_sources import (
    AccessToken,
    TokenUnavailable,
    request_token,
    sign_token,
)
from normalizer.settings import Settings

RENEWED_AFTER: Final = 0.8
"""The share of its life after which a token is renewed."""
RETRY_S: Final = 5.0


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """One token for all clients of this process, of any thread and event loop.

    `generation` counts the tokens, and `is_due` says that it is time for the next one.
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
        """A valid token, fetched if there is none. Raises TokenUnavailable."""
        if self._clock() >= self._expires_at_s:
            await asyncio.to_thread(self._renew)
        return self._text

    def extensions(self) -> dict[str, str]:
        """What is sent beside the token."""
        return self._extensions

    @property
    def is_due(self) -> bool:
        """Whether the token should be renewed, and the last attempt is not too fresh."""
        return self._clock() >= max(self._renew_at_s, self._retry_at_s)

    def renew_in_background(self) -> None:
        """Fetch the next token in a thread; until it is there, the present one stays."""
        self._retry_at_s = self._clock() + RETRY_S
        asyncio.get_running_loop().run_in_executor(None, self._try_to_renew)

    def _try_to_renew(self) -> None:
        with contextlib.suppress(TokenUnavailable):  # the next attempt follows
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            begun_s = self._clock()
            if begun_s >= self._renew_at_s:  # else another thread was first
                self._text, lifetime_s = self._fetch()
                self._renew_at_s = begun_s + RENEWED_AFTER * lifetime_s
                self._expires_at_s = begun_s + lifetime_s
                self.generation += 1
            if self._clock() < self._renew_at_s:  # else each request would renew it
                self._retry_at_s = 0.0


@cache
def token_provider(settings: Settings) -> TokenProvider:
    """The provider of these settings, the same for all clients of the process."""
    fetch: Callable[[], AccessToken] = partial(request_token, settings)
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        fetch = partial(sign_token, settings.kafka_sasl_aws_region or "")
    pairs = (one.split("=", 1) for one in settings.kafka_sasl_oauthbearer_extensions)
    return TokenProvider(fetch, dict(pairs))
