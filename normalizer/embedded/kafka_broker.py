"""Runs Apache Kafka in a folder, as one process that is both broker and controller.

The first start formats the folder, and later starts continue with the same log:

    async with KafkaBroker(folder, await ensure_kafka_jars(print)) as broker:
        print(broker.bootstrap_servers)
"""

import base64
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from normalizer.embedded.embedded_errors import EmbeddedError, last_log_lines
from normalizer.embedded.free_ports import start_on_free_ports
from normalizer.embedded.kafka_jars import find_java
from normalizer.embedded.private_file import write_private_file
from normalizer.embedded.stack_process import StackProcess
from normalizer.runtime.child import ChildProcess

_CONTROLLER: Final = "CONTROLLER"
_PLAIN: Final = "PLAINTEXT"
_STARTED: Final = b"Kafka Server started"
_ENV: Final = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""In the locale C, Java doesn't find folders whose names have letters beyond ASCII."""
_LOG: Final = "log"
_PROPERTIES_FILE: Final = "server.properties"
_LOGGING_FILE: Final = "log4j2.properties"
_QUICK_START: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""This halves the CPU time of the start. A local broker doesn't live long enough to lose more by
it."""
_PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": _CONTROLLER,
    "inter.broker.listener.name": _PLAIN,
    "num.network.threads": "2",
    "num.io.threads": "4",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "message.max.bytes": str(64 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.threads": "1",
    "log.cleaner.backoff.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    "log.initial.task.delay.ms": "1000",
    # A restarted broker waits this long for its old session to expire.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}
_LOGGING: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


class KafkaBroker(StackProcess):
    """Apache Kafka on 127.0.0.1, as one broker.

    - `folder` holds its log, its ports, and the cluster id, so a restart continues the cluster.
    - `jars` is the folder that `ensure_kafka_jars` returns.
    - `properties` are settings of the broker that override the defaults.
    - `listeners` are additional listeners by name, each with its protocol, such as
      {"SECURE": "SASL_SSL"}. Their settings go into `properties`.
    - `format_arguments` are for Kafka's storage tool (such as `--add-scram`), and `java_options`
      are for Java.
    """

    stop_s = 20.0

    def __init__(
        self,
        folder: Path,
        jars: Path,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        java_options: Sequence[str] = (),
        heap_mb: int = 512,
    ) -> None:
        self.folder = folder.resolve()
        super().__init__("Kafka", self.folder / "kafka.log")
        self.jars = jars.resolve()
        self._properties = {**_PROPERTIES, **(properties or {})}
        self._listeners = {_PLAIN: "PLAINTEXT", **(listeners or {})}
        self._format_arguments = format_arguments
        self._java_options = java_options
        self._heap_mb = heap_mb
        self._ports: dict[str, int] = {}

    @property
    def bootstrap_servers(self) -> str:
        """Return the address of the plain listener."""
        return self.listener_address(_PLAIN)

    def listener_address(self, listener: str) -> str:
        """Return the host and port of a listener."""
        return f"127.0.0.1:{self._ports[listener]}"

    async def start(self) -> None:
        """Start, and return when the broker responds. Formats the log folder the first time."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = [_CONTROLLER, *self._listeners]
        await start_on_free_ports(self.folder / "ports.json", names, self._start)

    async def _start(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._write_properties()
        if not (self.folder / _LOG / "meta.properties").exists():
            await self._format()
        offset = self.log.stat().st_size if self.log.exists() else 0
        self._child = await self._java("kafka", "kafka.Kafka", _PROPERTIES_FILE)
        await self.wait_until_ready(partial(self._has_started, offset))

    def _write_properties(self) -> None:
        protocols = {_CONTROLLER: "PLAINTEXT", **self._listeners}
        addresses = {name: f"{name}://{self.listener_address(name)}" for name in self._ports}
        properties = {
            "log.dirs": _LOG,
            "controller.quorum.voters": f"1@{self.listener_address(_CONTROLLER)}",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(addresses[name] for name in self._listeners),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            **self._properties,
        }
        lines = [f"{key}={value}\n" for key, value in properties.items()]
        write_private_file(self.folder / _PROPERTIES_FILE, "".join(lines))
        (self.folder / _LOGGING_FILE).write_text(_LOGGING)

    async def _format(self) -> None:
        """Format the log folder once. If that's interrupted, there's no meta.properties."""
        shutil.rmtree(self.folder / _LOG, ignore_errors=True)
        child = await self._java(
            "kafka-storage",
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", self._cluster_id(), "--config", _PROPERTIES_FILE),
            *self._format_arguments,
        )
        if await child.wait() != 0:
            raise EmbeddedError(
                "Kafka's storage tool could not format the log. Its output ends "
                f"with:\n{last_log_lines(self.log)}"
            )

    def _cluster_id(self) -> str:
        """Return the id of the cluster that this broker forms."""
        first, *others = uuid.uuid4().bytes
        raw = bytes([first & 0x7F, *others])  # a "-" at the beginning would look like an option
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    async def _java(self, name: str, main: str, *arguments: str) -> ChildProcess:
        """Start Java inside the folder, so that no Kafka file must contain the folder's name."""
        return await ChildProcess.start(
            name,
            [
                await find_java(),
                f"-Xmx{self._heap_mb}m",
                *_QUICK_START,
                *self._java_options,
                "-Djava.awt.headless=true",
                f"-Dlog4j2.configurationFile={_LOGGING_FILE}",
                *("-cp", f"{self.jars}/*"),
                main,
                *arguments,
            ],
            env=_ENV,
            log=self.log,
            cwd=self.folder,
        )

    async def _has_started(self, offset: int) -> bool:
        """Return whether its log says that it accepts connections."""
        with self.log.open("rb") as log:
            log.seek(offset)
            return _STARTED in log.read()
