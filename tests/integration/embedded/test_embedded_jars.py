"""Kafka's jars: from the cache, by Maven, or one line that says what to type."""

import asyncio
from pathlib import Path

import pytest

from normalizer.embedded import KAFKA_VERSION, KafkaRequirementMissingError, ensure_kafka_jars

_JAVA = """echo 'openjdk version "{version}" 2025-01-01' >&2"""
_MAVEN = """
for argument; do case "$argument" in -DoutputDirectory=*) out="${argument#*=}";; esac; done
echo "run" >> "$COUNT"
echo "Downloaded from central: somewhere/kafka-clients.jar (9.1 MB at 3 MB/s)"
/bin/mkdir -p "$out" && echo jar > "$out/kafka.jar"
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path on which there is nothing but what the test puts there."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    return folder


def _command(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.usefixtures("commands")
async def test_without_java_it_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(
        KafkaRequirementMissingError, match=r"Java is missing.*run `apt-get install openjdk"
    ):
        await ensure_kafka_jars(print, tmp_path / "cache")

    assert not (tmp_path / "cache").exists()


async def test_a_download_that_fails_leaves_nothing_half_done(
    commands: Path, tmp_path: Path
) -> None:
    _command(commands, "java", _JAVA.format(version="21"))
    _command(commands, "mvn", "echo '[ERROR] Unknown host'; exit 1")

    with pytest.raises(
        KafkaRequirementMissingError, match=r"could not be downloaded \(Unknown host\)"
    ) as missing:
        await ensure_kafka_jars(print, tmp_path / "cache")

    assert "\n" not in str(missing.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


async def test_two_at_once_download_once_and_the_cache_needs_no_maven(
    commands: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    _command(commands, "java", _JAVA.format(version="17.0.1"))
    _command(commands, "mvn", _MAVEN)

    both = await asyncio.gather(
        *(ensure_kafka_jars(said.append, tmp_path / "cache") for _ in range(2))
    )
    (commands / "mvn").unlink()
    again = await ensure_kafka_jars(said.append, tmp_path / "cache")

    assert both == [again, again]
    assert again.name == f"kafka-{KAFKA_VERSION}"
    assert (tmp_path / "count").read_text() == "run\n"
    assert said[1:] == ["  kafka-clients.jar (9.1 MB)"]
