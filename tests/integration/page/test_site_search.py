"""The site of `make docs`: what a tired operator or a newcomer types finds its page."""

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser

from tests.integration.page.browsing import looking

ROOT: Final = Path(__file__).parents[3]

QUESTIONS: Final = {
    "lag grows but consumer alive": "operate/lag",
    "too many open files": "operate/process-ends",
    "restore from backup": "operate/backup",
    "OOMKilled": "operate/process-ends",
    "replay dead letter queue": "operate/quarantine",
    "dashboard not updating": "operate/page-is-old",
    "password authentication failed": "operate/sign-in",
    "gdpr delete user data": "operate/erase",
    "stuck in rebalance": "operate/not-assigned",
    "consumer stuck on bad message": "operate/batch-waits",
    "kafka down": "operate/kafka-away",
    "disk full postgres": "operate/disk-full",
    "how to scale consumers": "operate/scale-out",
    "upgrade without downtime": "operate/upgrade",
    "secret leaked into events table": "operate/redact",
    "topic deleted and recreated": "operate/partition-stopped",
    "messages expired before being read": "operate/records-expire",
    "lag grows": "operate/lag",
    "why was my record rejected and how do I get it back": "operate/quarantine",
    "service exits with 3": "operate/process-ends",
    "database disk full": "operate/disk-full",
    "erase an execution": "operate/erase",
    "move topic to another cluster": "operate/move",
    "attempts look wrong": "operate/number-looks-wrong",
    "run two processes": "operate/scale-out",
    "partition is blocked": "operate/batch-waits",
    "how long are events kept": "operate/retention",
    "two databases one consumer group": "operate/not-assigned",
    "how do I send an event": "producing",
    "dashboard shows stale data": "operate/page-is-old",
    "postgres disk full": "operate/disk-full",
    "kafka broker down": "operate/kafka-away",
    "events arriving late": "reference/questions",
    "same event counted twice": "operate/number-looks-wrong",
    "rotate database password": "operate/sign-in",
    "reprocess quarantined records": "operate/quarantine",
    "which alert thresholds": "reference/alerts",
    "execution stuck running forever": "operate/calls-fail",
    "duplicate rows": "operate/number-looks-wrong",
    "change log level": "operate/log-lines",
    "certificate expired": "operate/sign-in",
    "events missing from dashboard": "operate/number-looks-wrong",
    "table too big": "operate/disk-full",
    "migration failed": "operate/upgrade",
    "roll back a bad release": "operate/upgrade",
    "pod keeps restarting": "operate/process-ends",
    "delete a bad record from quarantine": "operate/quarantine",
    "too many retries": "operate/calls-fail",
    "producer changed its schema": "operate/quarantine",
    "postgres failover": "operate/postgresql-away",
    "too many connections": "operate/running",
    "skip a poison message": "operate/batch-waits",
    "deadlock detected": "operate/batch-waits",
    "grant read access to analyst": "operate/running",
    "API key leaked": "operate/redact",
    "verify says divergent": "operate/check-differs",
    "out of memory": "operate/process-ends",
}
"""Each with its page, which must be among the first three hits."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder)
    variables = {"PYTHONPATH": ".", "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=variables, check=True)
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_search_finds_the_page_of_each_question(site: str, browser: Browser) -> None:
    hits: dict[str, list[str]] = {}
    async with looking(browser, site, drawn=False) as page:
        box, links = page.locator(".md-search__input"), page.locator(".md-search-result__item > a")
        for question in QUESTIONS:
            await box.fill("")
            await box.press("Shift")
            await links.first.wait_for(state="detached")
            await box.fill(question)
            await box.press("Shift")
            await links.first.wait_for(state="attached")
            addresses = await links.evaluate_all("links => links.map(link => link.pathname)")
            hits[question] = addresses[:3]

    assert {
        question: found
        for question, found in hits.items()
        if f"/{QUESTIONS[question]}/" not in found
    } == {}
