"""The dashboard of the service asks for metrics and labels that there are, in valid PromQL."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from normalizer.observability.metric_catalog import METRICS
from projector.api.api_metrics import ApiMetrics
from tests.support.dashboards import Query, queries
from tests.support.promtool import run_promtool

QUERIES = [query for query in queries() if query.source == "prometheus"]
SLO = Path(__file__).parents[2] / "deploy" / "prometheus" / "slo.yml"
SCRAPED = {"instance", "job"}


def _known() -> Iterator[tuple[str, set[str]]]:
    """Name -> labels of every series of ours."""
    for metric in METRICS:
        names = [metric.name]
        if metric.kind == "histogram":
            names = [f"{metric.name}_bucket", f"{metric.name}_sum", f"{metric.name}_count"]
        for name in names:
            yield name, {*metric.labels, "le"}
    api = ApiMetrics()
    api.requests.labels(endpoint="q", status="200").inc()
    api.seconds.labels(endpoint="q").observe(0.1)
    for family in text_string_to_metric_families(api.to_exposition_bytes().decode()):
        for sample in family.samples:
            yield sample.name, set(sample.labels)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for family in registry.collect():
        yield family.name, set()
    for rule in yaml.safe_load(SLO.read_text())["groups"][0]["rules"]:
        yield rule["record"], {"slo"}


KNOWN = dict(_known())


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_it_asks_for_what_there_is(query: Query) -> None:
    text = re.sub(r'"[^"]*"|\$__rate_interval|\[[^\]]*\]', "", query.text)
    names = set(re.findall(r"\b(?:(?:normalizer|projector|process)_|slo:)[\w:]+", text))
    grouped = {word for group in re.findall(r"by \(([^)]*)\)", text) for word in group.split(", ")}
    selected = set(re.findall(r"(\w+)=~?", text))

    assert names, query.text
    assert names <= KNOWN.keys()
    labels = SCRAPED.union(*(KNOWN[name] for name in names))
    assert grouped | selected <= labels


def test_every_family_of_the_catalogue_that_an_alert_needs_is_on_it() -> None:
    shown = " ".join(query.text for query in QUERIES)

    missing = [metric.name for metric in METRICS if metric.name not in shown]
    # Metrics that other panels show, or that are only queried by hand.
    assert set(missing) <= {
        *("normalizer_records_total", "normalizer_holes_total", "normalizer_gaps_total"),
        *("normalizer_drift_found_total", "normalizer_next_offset", "normalizer_build_info"),
        "normalizer_lane_panics_total",
        *("normalizer_open_batch_seconds", "normalizer_missing_migrations"),
        *("normalizer_job_progress_ratio", "normalizer_expired_unread_total"),
    }


def test_prometheus_can_read_every_question(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.text.replace("$__rate_interval", "1m")}
        for number, query in enumerate(QUERIES)
    ]

    panels = {"groups": [{"name": "panels", "rules": rules}]}
    run_promtool(tmp_path, "check", "rules", "panels.yml", panels=panels)
