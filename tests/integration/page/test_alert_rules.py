"""A panel gives its figure as a Prometheus alert rule, and a state leads to its documentation."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from playwright.async_api import Browser

from normalizer.observability.metric_catalog import METRICS
from projector.api.api_metrics import ApiMetrics
from tests.integration.page.browsing import looking, serving, show
from tests.support.stack import Database, skip_or_fail
from tests.support.table_rows import connected, insert_row

_STEP: Final = 'fetch "1"\\ é {x}'
_COPIED: Final = """
    () => Object.fromEntries([...document.querySelectorAll(".panel > header .rule")]
        .map((one) => [one.closest(".panel").id, one.dataset.copy]))
"""
_SEVERITIES: Final = {
    "rate": "page", "errors": "ticket", "first": "ticket", "storms": "ticket", "stuck": "ticket",
    "freshness": "page", "quarantine": "info", "records": "info",
}  # fmt: skip
"""As deploy/prometheus/alerts.yml has them."""
_WITHOUT_FILTERS: Final = {"first", "storms", "stuck", "freshness", "quarantine"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        skip_or_fail("no promtool: type `apt-get install prometheus`")
    return found


def _run(promtool: str, *arguments: str | Path) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_panel_with_a_metric_gives_a_rule_with_its_filters(
    browser: Browser, database: Database, promtool: str, tmp_path: Path
) -> None:
    expected = {
        "": {"rate", "errors", *_WITHOUT_FILTERS},
        "attempts=0": {"rate", "errors", *_WITHOUT_FILTERS},
        "step=x": {"rate", "errors", "first", "stuck", "freshness", "quarantine"},
        "step=x&attempts=0": {"rate", "errors", "first", "stuck", "freshness", "quarantine"},
        # There is no metric of a single retry or of a playbook.
        "attempts=2": _WITHOUT_FILTERS,
        "playbook=p": {"storms", "freshness", "quarantine"},
        "show=quarantine": {"records"},
        "show=quarantine&reason=too_large": {"records"},
        "show=quarantine&shape=worker": set(),
    }
    exported = {*(metric.name for metric in METRICS)}
    exported |= set(
        re.findall(r"^# TYPE (\w+)", ApiMetrics().to_exposition_bytes().decode(), re.MULTILINE)
    )
    docs = "https://git.example/project/"

    async with (
        serving(database.url, PROJECTOR_DOCS=docs) as url,
        looking(browser, url, visit=False) as page,
    ):
        for screen, panels in expected.items():
            await show(page, f"{url}/?{screen}")
            rules: dict[str, str] = await page.evaluate(_COPIED)
            titles = await page.locator(".rule").evaluate_all("all => all.map((one) => one.title)")

            assert rules.keys() == panels, screen
            assert all("rule_files in prometheus.yml" in one for one in [*titles, *rules.values()])
            for panel, text in rules.items():
                file = tmp_path / f"{panel}.yml"
                file.write_text(text)
                _run(promtool, "check", "rules", file)
                severity = "ticket" if panel == "rate" and screen else _SEVERITIES[panel]
                assert f"severity: {severity}}}" in text, text
                assert f"runbook_url: {docs}docs/operate/" in text, text
                assert set(re.findall(r"\b(?:projector|normalizer)_\w+", text)) <= exported, text
                assert 'reason="too_large"' in text or "reason=too_large" not in screen
                if panel in ("rate", "errors") and "attempts=0" in screen:
                    assert 'attempts="first"' in text
                if panel in ("rate", "errors", "first"):
                    assert text.startswith("# Watches the last one to two hours, whatever"), text
                    counted = "# failed, error, and cancelled"
                    assert (counted in text) == ('outcome="failed"' in text), text
                    assert ("_x\n" in text) is ('step="x"' in text) is ("step=x" in screen), text


async def test_button_of_a_rule_says_how_to_get_the_rule_of_a_step(
    browser: Browser, database: Database
) -> None:
    all_steps = "Copy rule (all steps; filter by step for one)"
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        for screen, words, of_storms in (
            ("", all_steps, ["Copy rule (all steps)"]),
            ("step=charge", "Copy rule for charge", []),
        ):
            await show(page, f"{url}/?{screen}")
            for panel in ("rate", "first", "errors"):
                assert await page.inner_text(f"#{panel} .rule") == words
            # The metric of storms has no step.
            assert await page.locator("#storms .rule").all_inner_texts() == of_storms


async def test_rule_of_a_step_fires_when_that_step_fails(
    browser: Browser, database: Database, promtool: str, tmp_path: Path
) -> None:
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        await show(page, f"{url}/?step={_encoded(_STEP)}")
        rules = await page.evaluate(_COPIED)
    panels = ("rate", "errors", "first")
    for panel in panels:
        (tmp_path / f"{panel}.yml").write_text(rules[panel])

    both = [{"attempts": "first"}, {"attempts": "retry"}]
    fires: dict[str, tuple[list[dict[str, str]], str]] = {
        "CallsFail": ([{}], "Too many calls of step {} fail"),
        "CallsFailByAttempt": (both, "Too many first attempts or retries of step {} fail"),
        "FirstAttemptsFail": ([{}], "Too few first attempts of step {} succeed"),
    }
    tests = {
        "rule_files": [f"{panel}.yml" for panel in panels],
        "tests": [_case(_STEP, fires), _case("other", {name: ([], "") for name in fires})],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    _run(promtool, "test", "rules", tmp_path / "tests.yml")


def _case(step: str, fires: dict[str, tuple[list[dict[str, str]], str]]) -> dict[str, Any]:
    """The calls of this step, most of which fail, and the labels and summary of each alert."""
    series = {
        'projector_threshold{figure="error_rate",level="critical"}': 0.25,
        'projector_threshold{figure="first_attempt_success",level="critical"}': 0.5,
    }
    for attempts in ("first", "retry"):
        labels = f'step={json.dumps(step)},attempts="{attempts}"'
        series[f'projector_recent_step_calls{{{labels},outcome="succeeded"}}'] = 10
        series[f'projector_recent_step_calls{{{labels},outcome="failed"}}'] = 30
    return {
        "interval": "1m",
        "input_series": [
            {"series": one, "values": f"{number}x60"} for one, number in series.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": "30m",
                "alertname": f"{name}_fetch_1_x_",
                "exp_alerts": [
                    {
                        "exp_labels": {"severity": "ticket", "step": step, **labels},
                        "exp_annotations": {
                            "summary": f"{said.format(step)}, over the last one to two hours.",
                        },
                    }
                    for labels in alerts
                ],
            }
            for name, (alerts, said) in fires.items()
        ],
    }


def _encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@pytest.mark.parametrize("docs", ["", "https://git.example/project/"])
async def test_state_leads_to_what_to_do_about_it(
    browser: Browser, database: Database, docs: str
) -> None:
    async with connected(database) as connection:
        await insert_row(connection, "normalizer.source_positions")

    async with (
        serving(database.url, PROJECTOR_DOCS=docs) as url,
        looking(browser, url) as page,
    ):
        path = "docs/operate/page-is-old.md"
        if docs:
            await page.wait_for_selector(f"#banner a[href='{docs}{path}'] >> text=What to do")
            assert await page.locator(f"#freshness a[href='{docs}{path}']").count() == 1
        else:
            await page.wait_for_selector(f"#banner code >> text={path}")
            assert await page.locator("#banner a").count() == 0
