"""The image, built from this checkout and run against a real PostgreSQL and a real Kafka.

It adds rows to docs/results.csv: `make soak ARGS="-k test_image"`.
"""

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Final

import httpx
import pytest

from normalizer.embedded.free_ports import find_free_port
from tests.support.containers import (
    ROOT,
    Container,
    build_image,
    container,
    image_property,
    run_to_its_end,
)
from tests.support.results import PrintLine, write_results
from tests.support.service_runs import Watcher, environment, settings_for, until, watching
from tests.support.simulator_runs import compare_database, load_topic, traffic_mix
from tests.support.stack import Database, Topic

IMAGE: Final = "localhost/event-normalizer:test"
EVENTS: Final = 100_000
LARGEST_BYTES: Final = 250 * 1000**2
LABELS: Final = ("title", "description", "version", "revision", "licenses", "base.name")
REQUIREMENTS: Final = (ROOT / "requirements.lock").read_text()


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("topic", [6], indirect=True)
async def test_the_image_drains_a_topic_serves_the_views_and_stops_cleanly(
    empty_database: Database,
    topic: Topic,
    bootstrap_servers: str,
    tmp_path: Path,
    say: PrintLine,
) -> None:
    say("building the image")
    await build_image(IMAGE)
    figures: dict[str, object] = await _what_it_is()

    url, ledger = {"DATABASE_URL": empty_database.url}, tmp_path / "ledger"
    migrated = await run_to_its_end(IMAGE, "normalizer", "migrate", **url)
    assert migrated.code == 0, migrated.said
    say(f"loading {EVENTS:,} events")
    ends = await load_topic(traffic_mix(), EVENTS, topic, bootstrap_servers, ledger)
    settings = settings_for(empty_database, topic, bootstrap_servers, log_format="json")
    variables = environment(settings)
    variables.pop("PATH")
    address = f"http://127.0.0.1:{find_free_port(set())}"
    serving = {**url, "PROJECTOR_PORT": address.rpartition(":")[2]}
    async with (
        watching(empty_database.url) as watcher,
        container(IMAGE, "normalizer", "run", **variables) as normalizer,
        container(IMAGE, "projector", "serve", **serving) as projector,
    ):
        say("draining")
        started_s = time.monotonic()
        await _drained(watcher, topic, ends)
        seconds = time.monotonic() - started_s
        figures["drained, with the start of the process"] = (
            f"{sum(ends.values()):,} records in {seconds:.0f} s"
        )
        await _views_are_served(address)
        for running in (normalizer, projector):
            await _nothing_can_be_changed_from_inside(running)
            ended = await running.terminate()
            assert ended.code == 0, ended.said
        report = await compare_database(watcher, topic, ledger)
        assert report.agrees, "\n".join(report.lines())
    for command in ("normalizer ledger verify", "projector verify"):
        verified = await run_to_its_end(IMAGE, *command.split(), **variables)
        assert verified.code == 0, verified.said

    write_results(
        "image",
        'make soak ARGS="-k test_image"',
        figures
        | {
            "runs as": "user 10001, read-only root, no capabilities, 256 processes, 512 MB",
            "differences from the simulator's ledger": 0,
            "`normalizer ledger verify`, `projector verify`": "exit 0, in the image",
            "on SIGTERM": "`normalizer run` and `projector serve` end with exit 0",
        },
    )


async def _what_it_is() -> dict[str, object]:
    """Size, labels and components, each as it has to be."""
    size = int(await image_property(IMAGE, "{{.Size}}"))
    labels = json.loads(await image_property(IMAGE, "{{json .Labels}}"))
    shown = await run_to_its_end(IMAGE, "cat", "/opt/app/sbom.cdx.json")
    bom = json.loads(shown.said)
    purls = [component["purl"] for component in bom["components"]]
    installed = [one for one in bom["components"] if one["purl"].startswith("pkg:pypi/")]
    locked = set(re.findall(r"^([a-z0-9-]+)==", REQUIREMENTS, re.MULTILINE))
    said = await run_to_its_end(IMAGE, "normalizer", "--version")
    python = await run_to_its_end(IMAGE, "python", "--version")

    assert size < LARGEST_BYTES
    assert {f"org.opencontainers.image.{name}" for name in LABELS} <= labels.keys()
    assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "event-normalizer",
    )
    assert set(re.findall(r"pkg:pypi/([^@]+)@", " ".join(purls))) == locked
    assert [one["name"] for one in installed if not one.get("licenses")] == []
    assert any(purl.startswith("pkg:npm/uplot@") for purl in purls)
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in purls)
    return {
        "size": f"{size / 1000**2:.0f} MB",
        "says": f"{said.said.strip()}; {python.said.strip()}",
        "components listed (CycloneDX)": f"{len(installed)} of Python, each with its licence; "
        f"{len(purls)} in all",
    }


async def _drained(watcher: Watcher, topic: Topic, ends: dict[int, int]) -> None:
    """Wait for the end of the topic. The deadline restarts with each progress."""
    last = -1
    while True:
        at = await watcher.positions(topic)
        read = sum(position["next_offset"] for position in at.values())
        if read >= sum(ends.values()):
            return
        assert read != last, f"is at {read} of {sum(ends.values())}"
        last = read
        with contextlib.suppress(AssertionError):
            await watcher.until_read(topic, ends)


async def _views_are_served(address: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:

        async def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await client.get("/readyz")).status_code == 200
            return False

        await until(ready)
        rows = (await client.get("/api/v1/freshness")).json()["rows"]
    assert {row["state"] for row in rows} == {"caught_up"}


async def _nothing_can_be_changed_from_inside(running: Container) -> None:
    user = await running.execute("id", "-u")
    written = await running.execute("touch", "/opt/app/new")

    assert user.said.strip() == "10001"
    assert written.code != 0
    assert "Read-only file system" in written.said
