"""Runs a command with a Kafka broker for all of its processes, as `make test` runs pytest.

Otherwise each process of pytest would start a broker, which takes time and memory.
"""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from normalizer.embedded import KafkaBroker, KafkaRequirementMissingError, ensure_kafka_jars
from tests.support.stack import BOOTSTRAP_SERVERS, KAFKA_FOLDER_NAME, memory_first


async def _run(command: list[str]) -> int:
    try:
        jars = await ensure_kafka_jars(print)
    except KafkaRequirementMissingError:
        return await _ended(command, {})  # each test that needs Kafka says what is missing
    with tempfile.TemporaryDirectory(prefix="noetl-tests-") as folder:
        async with KafkaBroker(Path(folder) / "kafka", jars, heap_mb=1024) as broker:
            address = {"TEST_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
            return await _ended(command, {**address, KAFKA_FOLDER_NAME: str(broker.folder)})


async def _ended(command: list[str], more: dict[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **more})
    loop = asyncio.get_running_loop()
    # Ctrl-C reaches the command too, which ends by it: the broker stays until then.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, process.terminate)
    return await process.wait()


if __name__ == "__main__":
    memory_first()
    if BOOTSTRAP_SERVERS is not None:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command of the Makefile
    sys.exit(asyncio.run(_run(sys.argv[1:])))
