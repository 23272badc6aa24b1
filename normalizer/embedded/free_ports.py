"""Finds free ports on 127.0.0.1 that stay the same across restarts.

The ports of a server are stored in a file, so that its clients find it at the same address after a
restart. A port is replaced only if another program has taken it in the meantime.
"""

import json
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from normalizer.embedded.embedded_errors import EmbeddedError
from normalizer.embedded.private_file import write_private_file

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20_000
_ATTEMPTS = 1_000


async def start_on_free_ports(
    file: Path, names: Sequence[str], start: Callable[[dict[str, int]], Awaitable[None]]
) -> None:
    """Call `start` with free ports, the same as last time if possible.

    Another process may take a port after we've found it free and before the server binds it. So if
    `start` fails with an EmbeddedError and one of its ports isn't free any more, `start` is called
    again with other ports.
    """
    while True:
        ports = choose_and_store_ports(file, names)
        try:
            return await start(ports)
        except EmbeddedError:
            if all(is_port_free(port) for port in ports.values()):
                raise


def choose_and_store_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """Return a port for each name: the one stored in `file` if it's free, otherwise a new one."""
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports: dict[str, int] = {}
    for name in names:
        port = known.get(name)
        taken = set(ports.values())
        ports[name] = (
            port
            if port is not None and port not in taken and is_port_free(port)
            else find_free_port(taken)
        )
    write_private_file(file, json.dumps(ports))
    return ports


def find_free_port(taken: set[int]) -> int:
    """Return a port on which nobody listens, outside the range that the kernel gives to clients.

    A port inside that range could be lost during a restart of the server. While a client keeps
    retrying the port, the kernel may choose the very same port for the client's own end. The client
    is then connected to itself, and the server can't bind the port any more.
    """
    lowest_of_clients = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    highest = lowest_of_clients if lowest_of_clients > _LOWEST + _ATTEMPTS else 65_536
    chooser = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = chooser.randrange(_LOWEST, highest)
        if port not in taken and is_port_free(port):
            return port
    raise OSError(f"there is no free port on 127.0.0.1 between {_LOWEST} and {highest}")


def is_port_free(port: int) -> bool:
    """Return whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
