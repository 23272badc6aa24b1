"""Replaces a connection before the token that it signed in with expires.

aiokafka signs in only when it opens a connection. If a broker limits sessions
(connections.max.reauth.ms), it closes a connection at the first request after its token has
expired, and that request is lost. So once there's a newer token, `renew_connections_before_expiry`
replaces each connection that still uses an older one, as soon as it has no request in flight.
"""

from typing import Any
from weakref import WeakKeyDictionary

from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason

from normalizer.kafka.access_tokens import TokenProvider


def renew_connections_before_expiry(client: Any, provider: TokenProvider) -> None:
    """Make a client renew its token and its connections as it sends requests.

    Call it before the client is started.
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
