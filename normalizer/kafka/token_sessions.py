"""Replaces connections before the token that they signed in with expires.

The client signs in once per connection. A broker that limits sessions (connections.max.reauth.ms)
closes a connection at the first request after its token has expired, and that request is lost. So
we replace a connection when there's a newer token and no request is in flight on it.
"""

from typing import Any
from weakref import WeakKeyDictionary

from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason

from normalizer.kafka.access_tokens import TokenProvider


def renew_connections(client: Any, provider: TokenProvider) -> None:
    """Renew the token and connections of a client as it sends requests.

    Call it before its start.
    """
    get_connection = client._get_conn  # noqa: SLF001 - the public API has no access to connections
    generations: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    async def fresh_connection(
        node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, **options: Any
    ) -> Any:
        if provider.is_due:
            provider.renew_in_background()
        open_one = client._conns.get((node_id, group))  # noqa: SLF001 - as above
        if (
            open_one is not None
            and not open_one._requests  # noqa: SLF001 - as above
            and generations.get(open_one, provider.generation) < provider.generation
        ):
            open_one.close(reason=CloseReason.IDLE_DROP)
        # read before the sign-in, which uses this token or a newer one
        generation = provider.generation
        connection = await get_connection(node_id, group=group, **options)
        if connection is not None:
            generations.setdefault(connection, generation)
        return connection

    client._get_conn = fresh_connection  # noqa: SLF001 - as above
