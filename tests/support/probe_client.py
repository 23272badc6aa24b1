"""Requests /metrics, /livez and /readyz over HTTP, from a thread."""

import asyncio
import urllib.error
import urllib.request
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def http_get(url: str) -> tuple[int, dict[str, Any]]:
    """The status and JSON body of a probe."""
    status, body = await asyncio.to_thread(_get, url)
    return status, msgspec.json.decode(body)


async def scrape_metrics(url: str) -> Values:
    """Every sample of /metrics, by name and labels."""
    status, body = await asyncio.to_thread(_get, f"{url}/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def fetch_text(url: str) -> str:
    """The body of a page, whatever its status."""
    return _get(url)[1].decode()


def metric_value(values: Values, name: str, **labels: str) -> float:
    """Return one sample. Several are added up if labels are left out."""
    found = [
        number
        for (each, its), number in values.items()
        if each == name and frozenset(labels.items()) <= its
    ]
    assert found, f"{name} {labels} is not there"
    return sum(found)


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - this project's own address
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
