"""A network namespace whose connection to this machine is slow.

Its two ends are TUN devices. This process passes each packet from one to the other late and at a
limited rate, and drops packets when too many wait. The TCP of both ends is the kernel's. `tc netem`
would do the same, but not every kernel has it. It needs root, `ip` of iproute2, and /dev/net/tun.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec
import pytest

from normalizer.embedded import KafkaBroker

QUEUED_S: Final = 1.0
"""A router's buffer, in seconds of the rate. It drops everything beyond that."""
_SET_DEVICE: Final = 0x400454CA
_TUN_WITHOUT_HEADER: Final = 0x1001
_PACKET_BYTES: Final = 65_536


class SlowLink(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace, with two ways to this machine: `slow` and `fast` are its addresses there."""

    namespace: str
    slow: str
    fast: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words before a command that make it run behind the link."""
        return ("ip", "netns", "exec", self.namespace)


@contextlib.asynccontextmanager
async def slow_link(*, bytes_per_s: int, delay_s: float) -> AsyncIterator[SlowLink]:
    """A link with this rate towards the namespace, and this delay each way."""
    name, net = f"slow{secrets.token_hex(3)}", secrets.randbelow(250)
    link = SlowLink(namespace=name, slow=f"10.213.{net}.1", fast=f"10.214.{net}.1")
    await _typed("ip", "netns", "add", name)
    try:
        await _typed("ip", "-n", name, "link", "set", "lo", "up")  # for its probes
        with _tun(f"{name}s0") as here, _tun(f"{name}s1") as there:
            await _typed("ip", "link", "set", f"{name}s1", "netns", name)
            veth = ("type", "veth", "peer", "name", f"{name}f1", "netns", name)
            await _typed("ip", "link", "add", f"{name}f0", *veth)
            for way, address in (("s", link.slow), ("f", link.fast)):
                await _up(f"{name}{way}0", f"{address}/30")
                await _up(f"{name}{way}1", f"{address.removesuffix('1')}2/30", namespace=name)
            to_here = _carrying(there, here, delay_s, None)
            with _carrying(here, there, delay_s, bytes_per_s), to_here:
                yield link
    finally:
        await _typed("ip", "netns", "delete", name)


class BrokerAt(KafkaBroker):
    """A broker that listens on another address of this machine, and tells clients that one."""

    host = "127.0.0.1"

    def listener_address(self, listener: str) -> str:
        """The host and port of a listener."""
        return super().listener_address(listener).replace("127.0.0.1", self.host)


@contextlib.asynccontextmanager
async def forwarded(database_url: str, host: str) -> AsyncIterator[str]:
    """The database under another address of this machine, for who cannot reach its own."""
    parts = urlsplit(database_url)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(parts.hostname, parts.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, server_writer), name="to the server")
            tasks.create_task(_copy(server_reader, writer), name="to the client")

    async with await asyncio.start_server(forward, host, 0) as server:
        port = server.sockets[0].getsockname()[1]
        user = parts.netloc.rpartition("@")[0]
        yield parts._replace(netloc=f"{user}@{host}:{port}").geturl()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while said := await reader.read(1 << 16):
            writer.write(said)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def _tun(name: str) -> Iterator[int]:
    """A TUN device, which is gone once it is closed."""
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        pytest.fail(f"/dev/net/tun: {error.strerror}: this test needs it, and root")
    try:
        fcntl.ioctl(device, _SET_DEVICE, struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER))
        yield device
    finally:
        os.close(device)


@contextlib.contextmanager
def _carrying(source: int, target: int, delay_s: float, bytes_per_s: int | None) -> Iterator[None]:
    """Carry packets from one end to the other, inside the block."""
    loop = asyncio.get_running_loop()
    free_at_s = loop.time()
    on_the_way: set[asyncio.TimerHandle] = set()

    def deliver(packet: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(target, packet)

    def take() -> None:
        nonlocal free_at_s
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(source, _PACKET_BYTES):
                now_s = loop.time()
                free_at_s = max(free_at_s, now_s)
                if free_at_s - now_s > QUEUED_S:
                    continue
                free_at_s += len(packet) / bytes_per_s if bytes_per_s else 0.0
                on_the_way.add(loop.call_at(free_at_s + delay_s, deliver, packet))

    loop.add_reader(source, take)
    try:
        yield
    finally:
        loop.remove_reader(source)
        for late in on_the_way:  # The number of the device may soon be that of another file.
            late.cancel()


async def _up(device: str, address: str, *, namespace: str | None = None) -> None:
    ip = ("ip", "-n", namespace) if namespace else ("ip",)
    await _typed(*ip, "address", "add", address, "dev", device)
    await _typed(*ip, "link", "set", device, "up")


async def _typed(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode:
        pytest.fail(f"{' '.join(command)}: {said.decode()}")
