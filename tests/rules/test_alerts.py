"""Each alert goes red and green in promtool's hands, and the page tells what to do about it.

At full length, on series written by hand. In the soak
tests/integration/monitoring/test_alerts_live.py has the real ones.
"""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from normalizer.observability.metric_catalog import METRICS
from projector.api.api_metrics import ApiMetrics
from tests.support.dashboards import queries
from tests.support.promtool import run_promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
ALERTS: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]

_UP: Final = 'up{job="normalizer",instance="a"}'
_AT: Final = '{topic="noetl.events",partition="3"}'
_HERE: Final = {"job": "normalizer", "instance": "a"}
_THERE: Final = {"topic": "noetl.events", "partition": "3"}
_ENDS_UP: Final = {"normalizer_database_up": "1x60", "normalizer_broker_up": "1x60"}
_EVENTS: Final = 'normalizer_outcomes_total{shape="worker",outcome="stored"}'
_REFUSED: Final = 'normalizer_outcomes_total{shape="none",outcome="quarantined"}'

Series = dict[str, str]


def _calls(first: tuple[int, int], retry: tuple[int, int]) -> Series:
    """Recent calls: those that succeeded and those that failed, as two projectors report them."""
    return {
        f'projector_recent_calls{{instance="{instance}",attempts="{attempts}",outcome="{outcome}"}}':
        f"{calls}x60"
        for instance in "ab"
        for attempts, both in (("first", first), ("retry", retry))
        for outcome, calls in zip(("succeeded", "failed"), both, strict=True)
    }  # fmt: skip


def _limit(figure: str, critical: float) -> Series:
    return {f'projector_threshold{{figure="{figure}",level="critical"}}': f"{critical}x60"}


def _step(succeeded: int, failed: int) -> Series:
    return {
        'projector_recent_step_calls{step="load",attempts="first",outcome="succeeded"}': (
            f"{succeeded}x60"
        ),
        'projector_recent_step_calls{step="load",attempts="retry",outcome="failed"}': (
            f"{failed}x60"
        ),
    }


def _success(last_week: float, recent: float) -> Series:
    return {
        'projector_first_attempt_success_ratio{window="last_week"}': f"{last_week}x60",
        'projector_first_attempt_success_ratio{window="recent"}': f"{recent}x60",
    }


Case = tuple[Series, Series, dict[str, str]]
"""What makes an alert red, what leaves it green, and the labels that it then carries."""


def _one(series: str, red: str, green: str, labels: dict[str, str] | None = None) -> Case:
    return {series: red}, {series: green}, labels or {}


def _here(metric: str, red: str, green: str) -> Case:
    """One series of one instance."""
    return _one(f'{metric}{{instance="a"}}', red, green, _HERE)


def _beside(same: Series, case: Case) -> Case:
    """Red or green in a series, with others that stay as they are."""
    red, green, labels = case
    return {**same, **red}, {**same, **green}, labels


CASES: Final[dict[str, Case]] = {
    "NormalizerDown": _one(_UP, "0x60", "1x60", _HERE),
    "NormalizerLoopDead": _here("normalizer_heartbeat_age_seconds", "0+60x60", "0.5x60"),
    "NormalizerDatabaseAway": _one("normalizer_database_up", "0x60", "1x60"),
    "NormalizerDatabaseReadOnly": _beside(
        {"normalizer_database_up": "1x60"}, _one("normalizer_database_writable", "0x60", "1x60")
    ),
    "NormalizerBrokerAway": _one("normalizer_broker_up", "0x60", "1x60"),
    "NormalizerNotReady": _here("normalizer_ready", "0x60", "0x4 1x56"),
    "NormalizerDegraded": _here("normalizer_degraded", "1x60", "1x4 0x56"),
    "NormalizerBatchBlocked": _here("normalizer_open_batch_seconds", "0+60x60", "0x60"),
    "NormalizerDataCorrupted": (
        {'normalizer_retries_total{sqlstate_class="XX001",instance="a"}': "0x30 1+1x30"},
        {'normalizer_retries_total{sqlstate_class="XX",instance="a"}': "0x30 1+1x30"},
        {"sqlstate_class": "XX001", **_HERE},
    ),
    "NormalizerPartitionStopped": _one(
        'normalizer_partitions{state="stopped",instance="a"}',
        *("1x60", "0x60"),
        {"state": "stopped", **_HERE},
    ),
    "NormalizerPartitionStuck": _beside(
        {f"normalizer_lag_records{_AT}": "5x60", **_ENDS_UP},
        _one(f"normalizer_next_offset{_AT}", "7x60", "7+10x60", _THERE),
    ),
    "NormalizerLagging": _one(
        f"normalizer_lag_seconds{_AT}", "0+60x60", "2x60", {"topic": "noetl.events"}
    ),
    "NormalizerRecordsExpire": _beside(
        {f"normalizer_time_to_expiry_seconds{_AT}": "600x60"},
        _one(f"normalizer_lag_records{_AT}", "5x60", "0x60", _THERE | {"job": "normalizer"}),
    ),
    "NormalizerRecordsLost": _here("normalizer_gaps_total", "0x50 1x10", "1x60"),
    "NormalizerExpiredUnread": _here("normalizer_expired_unread_total", "0x50 1x10", "1x60"),
    "NormalizerPoisonFlood": (
        {_EVENTS: "0+60x60", _REFUSED: "0+60x60"},
        {_EVENTS: "0+6000x60", _REFUSED: "0+6x60"},
        {},
    ),
    "NormalizerQuarantined": _one(
        'normalizer_quarantined_total{reason="too_deep"}',
        *("0x30 1x30", "1x60"),
        {"reason": "too_deep"},
    ),
    "NormalizerDrift": _one(
        'normalizer_drift_found_total{shape="worker",kind="unknown_key"}',
        *("0x30 1x30", "0x60"),
        {"shape": "worker", "kind": "unknown_key"},
    ),
    "NormalizerLanePanicked": _here("normalizer_lane_panics_total", "0x30 1x30", "2x60"),
    "NormalizerRebalances": _one("normalizer_rebalances_total", "0+1x60", "3x60"),
    "NormalizerViewsDiverge": _one("normalizer_divergent_rows", "2x60", "0x60"),
    "NormalizerSnapshotHeld": _one("normalizer_oldest_snapshot_seconds", "0+60x60", "8x60"),
    "ProjectorLogNotRead": (
        {'projector_partitions{state="dead"}': "3x60"},
        {'projector_partitions{state="caught_up"}': "3x60"},
        {"state": "dead"},
    ),
    "NormalizerJobInterrupted": _one(
        'normalizer_jobs{kind="backfill",state="interrupted"}',
        *("1x60", "0x60"),
        {"kind": "backfill"},
    ),
    "NormalizerRestarts": _one(
        'process_start_time_seconds{job="normalizer",instance="a"}', "0+60x60", "7x57 8x3", _HERE
    ),
    "ProjectorNotMaintained": _one(
        'normalizer_unverified_seconds{scope="sample"}', "9999x60", "900x60"
    ),
    "RelayDown": (
        {'normalizer_ready{job="relay",instance="a"}': "0x60"},
        {'normalizer_ready{job="relay",instance="a"}': "1x60", 'up{job="relay"}': "1x60"},
        {"job": "relay", "instance": "a"},
    ),
    "RelayLagging": (
        {'normalizer_lag_seconds{job="relay",topic="noetl.events",partition="3"}': "0+60x60"},
        {f"normalizer_lag_seconds{_AT}": "0+60x60"},
        {"topic": "noetl.events"},
    ),
    "ProjectorDown": _one(
        'up{job="projector",instance="a"}', "0x60", "1x60", {"job": "projector", "instance": "a"}
    ),
    "ProjectorFiguresOld": _one("projector_figures_age_seconds", "0+60x60", "2x60"),
    "ProjectorErrorRate": _beside(
        _limit("error_rate", 0.3), (_calls((60, 20), (10, 10)), _calls((60, 19), (10, 10)), {})
    ),
    "ProjectorStepFails": (_step(20, 20), _step(21, 20), {"step": "load"}),
    "ProjectorRetryRatio": _beside(
        _limit("retry_ratio", 0.5), (_calls((30, 10), (10, 10)), _calls((31, 10), (10, 10)), {})
    ),
    "ProjectorStuckExecutions": _beside(
        {'projector_stuck_executions{silent_for="under 1 h"}': "15x60", **_limit("stuck", 20)},
        (
            {'projector_stuck_executions{silent_for="under 7 days"}': "5x60"},
            {'projector_stuck_executions{silent_for="7 days and more"}': "500x60"},
            {},
        ),
    ),
    "ProjectorFirstAttemptsWorse": _beside(
        _calls((30, 10), (0, 0)), (_success(0.9, 0.75), _success(0.9, 0.85), {})
    ),
}


def test_every_alert_goes_red_and_green(tmp_path: Path) -> None:
    assert CASES.keys() == {alert["alert"] for alert in ALERTS}
    red_and_green = (
        (_checked(alert, CASES[alert["alert"]][0]), _checked(alert, None)) for alert in ALERTS
    )
    _try(tmp_path, [one for both in red_and_green for one in both])


_OUTCOMES: Final = [alert["alert"] for alert in ALERTS if "keep_firing_for" in alert]


def test_every_alert_about_workflows_outlasts_a_swing_around_its_threshold(tmp_path: Path) -> None:
    """Red until a few minutes ago, and green since: one alert, not two."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    (of_workflows,) = (group["rules"] for group in groups if group["name"] == "outcomes")
    assert [alert["alert"] for alert in of_workflows] == _OUTCOMES

    swinging = []
    for alert in of_workflows:
        red, green, _ = CASES[alert["alert"]]
        # Series of one kind only would be stale, not green.
        values = {
            series: f"{_constant(red[series])}x50 {_constant(green.get(series, '0x60'))}x10"
            for series in red
        }
        swinging.append(_checked(alert, values))
    _try(tmp_path, swinging)


def _constant(values: str) -> str:
    return values.removesuffix("x60")


def test_a_relay_beside_the_normalizer_hides_no_stuck_partition(tmp_path: Path) -> None:
    (alert,) = (one for one in ALERTS if one["alert"] == "NormalizerPartitionStuck")
    of_the_relay = _AT.replace("{", '{job="relay",')
    moving = {
        f"normalizer_lag_records{of_the_relay}": "0x60",
        f"normalizer_next_offset{of_the_relay}": "7+10x60",
    }

    _try(tmp_path, [_checked(alert, CASES[alert["alert"]][0] | moving)])


@pytest.mark.parametrize("name", ["NormalizerRecordsExpire", "NormalizerRecordsLost"])
def test_records_that_a_relay_has_not_read_are_missed_too(tmp_path: Path, name: str) -> None:
    (alert,) = (one for one in ALERTS if one["alert"] == name)
    red, _, labels = CASES[name]
    of_the_relay = {series.replace("{", '{job="relay",'): values for series, values in red.items()}

    _try(tmp_path, [_checked(alert, of_the_relay, labels=labels | {"job": "relay"})])


def test_every_question_about_a_metric_of_the_normalizer_names_the_job() -> None:
    """A relay exports the same metrics, about positions of its own."""
    texts = [
        *(alert["expr"] for alert in ALERTS),
        *(query.text for query in queries() if query.source == "prometheus"),
        (RULES.parent / "slo.yml").read_text(),
    ]

    selectors = [one for text in texts for one in re.findall(r"\bnormalizer_\w+(?:\{[^}]*)?", text)]
    assert len(selectors) > 60
    assert [one for one in selectors if not re.search(r'\{job=~?"', one)] == []


def test_one_bad_record_in_a_quiet_night_is_no_flood(tmp_path: Path) -> None:
    (alert,) = (one for one in ALERTS if one["alert"] == "NormalizerPoisonFlood")
    one_record = {_EVENTS: "0x60", _REFUSED: "0x56 1x4"}

    _try(tmp_path, [_checked(alert, one_record, silent=True)])


@pytest.mark.parametrize(
    "name", ["ProjectorErrorRate", "ProjectorStepFails", "ProjectorRetryRatio"]
)
def test_a_few_calls_raise_no_alert_about_outcomes(tmp_path: Path, name: str) -> None:
    (alert,) = (one for one in ALERTS if one["alert"] == name)
    few = _calls((0, 9), (0, 9)) | _step(0, 19) | _limit("error_rate", 0.1)

    _try(tmp_path, [_checked(alert, few | _limit("retry_ratio", 0.1), silent=True)])


def _try(folder: Path, tests: list[dict[str, Any]]) -> None:
    """Evaluate each alert in its own tests alone: promtool evaluates every rule in every test."""
    by_alert: dict[str, list[dict[str, Any]]] = {}
    for test in tests:
        by_alert.setdefault(test["alert_rule_test"][0]["alertname"], []).append(test)
    files: dict[str, dict[str, Any]] = {}
    for name, own in by_alert.items():
        rules = [alert for alert in ALERTS if alert["alert"] == name]
        files[f"rules-{name}"] = {"groups": [{"name": name, "rules": rules}]}
        given = {"rule_files": [f"rules-{name}.yml"], "evaluation_interval": "1m", "tests": own}
        files[name] = given
    run_promtool(folder, "test", "rules", *(f"{name}.yml" for name in by_alert), **files)


def test_every_metric_of_an_alert_is_in_the_catalogue() -> None:
    scraped = {"up", "process_start_time_seconds"}
    names = {metric.name for metric in METRICS} | scraped | set(_projector_metrics())

    for alert in ALERTS:
        used = {
            word for word in _words(alert["expr"]) if word.startswith(("normalizer_", "projector_"))
        }
        used |= {word for case in CASES[alert["alert"]][:2] for word in map(_name, case)}
        assert used <= names, alert["alert"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_leads_to_the_page_that_says_what_to_do(alert: dict[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")

    assert page.startswith("docs/operate/")
    entry = f'<a id="{anchor}"></a>**{alert["alert"]}** ({alert["labels"]["severity"]}): '
    assert entry in (ROOT / page).read_text()
    assert anchor == alert["alert"].lower()


def test_every_alert_that_a_page_names_is_there() -> None:
    pages = [*(ROOT / "docs" / "operate").glob("*.md"), ROOT / "docs" / "metrics.md"]
    named = {
        name
        for page in pages
        for name in re.findall(r"\b(?:Normalizer|Projector|Relay)[A-Z]\w+", page.read_text())
    }

    assert named <= {alert["alert"] for alert in ALERTS}


def _projector_metrics() -> dict[str, str]:
    """The text of each metric, by its name."""
    families = text_string_to_metric_families(ApiMetrics().to_exposition_bytes().decode())
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.documentation
        for family in families
        if not family.name.endswith("_created")
    }


def _checked(
    alert: dict[str, Any],
    red: Series | None,
    *,
    silent: bool = False,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """One test for promtool: at an hour, red or (without series of its own, or silent) green."""
    name = alert["alert"]
    series = red or CASES[name][1]
    expected = {
        "exp_labels": {**alert["labels"], **(labels or CASES[name][2])},
        "exp_annotations": alert["annotations"],
    }
    return {
        "interval": "1m",
        "input_series": [
            {"series": _with_job(key), "values": values} for key, values in series.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": "1h",
                "alertname": name,
                "exp_alerts": [expected] if red and not silent else [],
            }
        ],
    }


def _with_job(series: str) -> str:
    """The series as Prometheus has it: what is of no other job was scraped from a normalizer."""
    name, _, labels = series.partition("{")
    if not name.startswith("normalizer_") or "job=" in labels:
        return series
    return f'{name}{{job="normalizer",{labels or "}"}'


def _words(expression: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in expression).split())


def _name(series: str) -> str:
    return series.partition("{")[0]
