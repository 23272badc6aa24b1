"""The parts that Grafana's dashboards must have, whatever their panels show."""

import json
from pathlib import Path
from typing import Any

import pytest

from projector.api.thresholds import DEFAULT_THRESHOLDS, TILES_WHERE_LOWER_IS_WORSE, TileName
from tests.support.dashboards import DASHBOARDS, VARIABLES
from tests.support.short_json import short_json

STATS: dict[str, TileName] = {
    "Executions completed": "executions_completed",
    "First-attempt success": "first_attempt_success",
    "Error rate": "error_rate",
    "Retries per first attempt": "retry_ratio",
    "Stuck executions, now": "stuck",
    "Records rejected": "rejected",
}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_each_is_in_the_short_form(path: Path) -> None:
    """Grafana exports each bracket on a line of its own."""
    expected = short_json(read(path)) + "\n"

    assert path.read_text() == expected, f"type `python -m tests.support.short_json {path}`"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_each_works_with_any_data_source_and_leads_to_the_page(path: Path) -> None:
    dashboard = read(path)
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    sources = [panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel]

    assert set(sources) == {"${datasource}"}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["page"]["type"] == "constant"
    assert any(link["url"].startswith("${page}/?") for link in dashboard["links"] if "url" in link)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_first_dashboard_can_be_filtered_by_everything() -> None:
    dashboard = read(next(path for path in DASHBOARDS if path.stem == "workflows"))

    names = [one["name"] for one in dashboard["templating"]["list"]]

    assert names == ["datasource", *VARIABLES, "page"]


def test_the_first_row_has_the_figures_and_thresholds_of_the_page() -> None:
    dashboard = read(next(path for path in DASHBOARDS if path.stem == "workflows"))
    stats = {panel["title"]: panel for panel in dashboard["panels"] if panel["type"] == "stat"}

    assert stats.keys() == STATS.keys()
    for title, tile in STATS.items():
        limits = DEFAULT_THRESHOLDS[tile]
        steps = [
            step["value"] for step in stats[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        ]
        expected = [limits.warn, limits.critical]
        if tile in TILES_WHERE_LOWER_IS_WORSE:
            expected.reverse()
        assert steps == [None, *expected]
        assert stats[title]["gridPos"]["y"] == 0
