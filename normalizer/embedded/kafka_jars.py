"""Downloads Apache Kafka's jars with Maven, once for all checkouts.

The first `make run` downloads them into the user's cache folder, where later runs from any checkout
find them. The download needs Java 17 and Maven. If one of them is missing, the error says how to
install it.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from normalizer.embedded.embedded_errors import EmbeddedError, KafkaRequirementMissingError

KAFKA_VERSION: Final = "4.4.0"

_LOG4J_VERSION: Final = "2.25.5"
_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_JAVA_AT_LEAST: Final = 17
_DEADLINE_S: Final = 900.0
_POM: Final = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>{KAFKA_VERSION}</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_DOWNLOADED: Final = re.compile(r"Downloaded from \S+ \S*/([^/\s]+\.jar) \(([^)]+? MB) at ")


async def ensure_kafka_jars(report: Callable[[str], None], cache: Path | None = None) -> Path:
    """Return the folder with Kafka's jars, and download them first if necessary.

    `report` is called with each line about the progress. The jars' folder is created in `cache`,
    which is by default `event-normalizer` in XDG_CACHE_HOME or ~/.cache. If two processes need the
    jars at the same time, one downloads them and the other waits. Raises
    KafkaRequirementMissingError.
    """
    await find_java()
    cache = cache if cache is not None else _default_cache()
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.exists():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    async with _locked(cache / "lock"):
        if not jars.exists():
            await _download(jars, report)
    return jars


async def find_java() -> Path:
    """Return Java 17 or newer, from JAVA_HOME or from PATH. Raises KafkaRequirementMissingError."""
    home = os.environ.get("JAVA_HOME")
    at_home = Path(home) / "bin" / "java" if home else None
    found = at_home if at_home is not None and at_home.exists() else shutil.which("java")
    advice = "Kafka needs Java 17: run `apt-get install openjdk-17-jre-headless` or set JAVA_HOME"
    if found is None:
        raise KafkaRequirementMissingError(f"Java is missing. {advice}")
    version_process = await asyncio.create_subprocess_exec(
        found,
        "-version",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await version_process.communicate()
    version = re.search(rb'version "(\d+)', output)
    if version is None or int(version[1]) < _JAVA_AT_LEAST:
        old = "unknown" if version is None else version[1].decode()
        raise KafkaRequirementMissingError(f"This Java has version {old}. {advice}")
    return Path(found)


async def _download(jars: Path, report: Callable[[str], None]) -> None:
    """Download to a temporary folder and rename it, so that the final folder is always complete."""
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaRequirementMissingError(
            "Kafka can't be downloaded, because Maven is missing. Install it, for example with "
            "`apt-get install maven`"
        )
    report(f"Downloading Apache Kafka {KAFKA_VERSION} (about 45 MB, once) ...")
    with tempfile.TemporaryDirectory(dir=jars.parent) as folder:
        pom = Path(folder) / "pom.xml"
        pom.write_text(_POM)
        command = [
            *(maven, "--batch-mode", "--strict-checksums", "--file", pom, _PLUGIN),
            f"-DoutputDirectory={folder}/jars",
            "-DincludeScope=runtime",
        ]
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_DEADLINE_S):
                failure = await _follow(process, report)
        except TimeoutError:
            failure = f"no result after {_DEADLINE_S:.0f} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise KafkaRequirementMissingError(
                f"Kafka could not be downloaded ({failure}). Check that Maven reaches its "
                "repository, then run `make run` again"
            )
        (Path(folder) / "jars").rename(jars)


async def _follow(process: asyncio.subprocess.Process, report: Callable[[str], None]) -> str:
    """Report each jar of a megabyte or more. Returns the first error that Maven prints."""
    assert process.stdout is not None
    failure = ""
    async for line in process.stdout:
        text = line.decode(errors="replace").strip()
        if downloaded := _DOWNLOADED.search(text):
            report(f"  {downloaded[1]} ({downloaded[2]})")
        elif text.startswith("[ERROR]") and not failure:
            failure = text.removeprefix("[ERROR]").strip()[:200]
    await process.wait()
    return failure


@contextlib.asynccontextmanager
async def _locked(file: Path) -> AsyncIterator[None]:
    """Hold a lock among this user's processes. The kernel releases it if this process dies."""
    with file.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield


def _default_cache() -> Path:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise EmbeddedError(
            "Kafka's jars can't be stored, because this user has no home folder. Set "
            "XDG_CACHE_HOME to another folder to store them in"
        ) from error
    return Path(base) / "event-normalizer"
