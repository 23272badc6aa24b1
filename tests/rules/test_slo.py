"""The recording rules of the objectives, computed by promtool."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from normalizer.observability.metric_catalog import METRICS
from tests.support.promtool import run_promtool

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "slo.yml"
PAGE: Final = (ROOT / "docs" / "metrics.md").read_text().partition("## Objectives\n")[2]

# A quarter of an hour of four is bad: lag, a projector that is unreachable, a row that differs.
_BAD: Final = {
    'normalizer_lag_seconds{job="normalizer",topic="noetl.events",partition="0"}': "2x44 90x15",
    'up{job="projector",instance="a"}': "1x44 0x15",
    'projector_api_requests_total{endpoint="errors",status="200"}': "0+60x44 _x15",
    'normalizer_divergent_rows{job="normalizer",instance="a"}': "0x44 1x15",
}
_FAILING: Final = {
    'normalizer_lag_seconds{job="normalizer",topic="noetl.events",partition="0"}': "2x59",
    'up{job="projector",instance="a"}': "1x59",
    'projector_api_requests_total{endpoint="errors",status="200"}': "0+97x59",
    'projector_api_requests_total{endpoint="errors",status="503"}': "0+3x59",
}


@pytest.mark.parametrize(
    ("series", "missed", "left"),
    [
        (
            _BAD,
            {"freshness": 0.25, "answers": 0.25, "agreement": 0.25},
            {"freshness": -49, "answers": -49, "agreement": -249},
        ),
        ({}, {"freshness": 1, "answers": 1}, {"freshness": -199, "answers": -199}),
        (_FAILING, {"freshness": 0, "answers": 1}, {"freshness": 1, "answers": -196}),
    ],
    ids=["a quarter is bad", "nobody is there", "three requests in a hundred fail"],
)
def test_time_that_misses_an_objective_is_counted(
    tmp_path: Path, series: dict[str, str], missed: dict[str, float], left: dict[str, float]
) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            _expected("round(slo:missed:ratio_1h, 0.05)", missed),
            _expected("round(slo:budget_left:ratio_28d)", left),
        ],
    }
    rules = yaml.safe_load(RULES.read_text())
    files = {"rule_files": ["slo.yml"], "evaluation_interval": "1m", "tests": [test]}

    run_promtool(tmp_path, "test", "rules", "test.yml", slo=rules, test=files)


def test_its_metrics_are_in_the_catalogue_and_the_page_has_every_series() -> None:
    known = {metric.name for metric in METRICS} | {"projector_api_requests_total"}
    text = RULES.read_text()

    words = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split()
    assert {word for word in words if word.startswith(("normalizer_", "projector_api"))} <= known
    for rule in _rules():
        assert f"`{rule['record']}`" in PAGE
    for rule in _rules("slo:objective:ratio"):
        assert f"| `{rule['labels']['slo']}` |" in PAGE


def test_the_containers_keep_more_than_the_longest_window() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    (kept,) = re.findall(r"retention\.time=(\d+)d", " ".join(services["prometheus"]["command"]))

    windows = re.findall(r"\[(\d+)d\]", RULES.read_text())
    assert int(kept) > max(map(int, windows))


def _rules(name: str | None = None) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for rule in group["rules"] if name in (None, rule["record"])]


def _expected(expression: str, values: dict[str, float]) -> dict[str, Any]:
    samples = [{"labels": f'{{slo="{slo}"}}', "value": value} for slo, value in values.items()]
    return {"expr": expression, "eval_time": "59m", "exp_samples": samples}
