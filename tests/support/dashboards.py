"""Reads Grafana's dashboards: their panels, and their SQL with macros and variables replaced."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).parents[2]
DASHBOARDS: Final = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))

_SOURCES: Final = {"grafana-postgresql-datasource": "projector", "prometheus": "prometheus"}
"""The provisioned data source of each type."""

VARIABLES: Final = ("playbook", "step", "attempts", "status", "worker", "source")
"""What a reader of a dashboard can choose."""

_MACRO: Final = re.compile(r"\$__\w+(?:\(\w*\))?")
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One query of a panel, or of a variable (then its panel is '')."""

    dashboard: str
    panel: str
    source: str
    text: str
    kind: str = ""
    format: str = "table"
    named: tuple[str, ...] = ()
    """Columns that the panel's overrides and transformations name."""

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel or 'variable'}"


def queries() -> Iterator[Query]:
    """Every query of every dashboard."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield Query(
                    dashboard=path.stem,
                    panel=panel["title"],
                    source=_SOURCES[panel["datasource"]["type"]],
                    text=target.get("rawSql") or target["expr"],
                    kind=panel["type"],
                    format=target.get("format", "table"),
                    named=_named(panel) if target.get("format") == "table" else (),
                )
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield Query(
                    dashboard=path.stem,
                    panel="",
                    source=_SOURCES[variable["datasource"]["type"]],
                    text=variable["query"],
                )


def _all_values() -> dict[str, str]:
    """The text that Grafana writes for "All" of each variable."""
    return {
        variable["name"]: variable["allValue"]
        for path in DASHBOARDS
        for variable in json.loads(path.read_text())["templating"]["list"]
        if "allValue" in variable
    }


def filled(text: str, since: datetime, until: datetime, **values: str) -> str:
    """The SQL that Grafana sends, macros replaced, and variables by a value or "All".

    Raises KeyError.
    """
    for_all = _all_values()

    def macro(found: re.Match[str]) -> str:
        match found[0].rstrip(")").split("("):
            case ["$__timeFrom", ""]:
                return f"'{since.isoformat()}'"
            case ["$__timeTo", ""]:
                return f"'{until.isoformat()}'"
            case ["$__timeFilter", column]:
                return f"{column} BETWEEN '{since.isoformat()}' AND '{until.isoformat()}'"
            case _:
                raise KeyError(found[0])

    def variable(found: re.Match[str]) -> str:
        value = values.get(found[1])
        if value is None:
            return for_all[found[1]]
        quoted = value.replace("'", "''")
        match found[2]:
            case None if found[1] in for_all:
                # The PostgreSQL data source quotes the values of what has "All".
                return f"'{quoted}'"
            case "sqlstring":
                # This is for MySQL too: a double quote gets a backslash.
                escaped = quoted.replace('"', '\\"')
                return f"'{escaped}'"
            case _:
                raise KeyError(found[0])

    return _VARIABLE.sub(variable, _MACRO.sub(macro, text))


def _named(panel: Mapping[str, Any]) -> tuple[str, ...]:
    overrides = [one["matcher"]["options"] for one in panel["fieldConfig"].get("overrides", ())]
    changes = [
        name for one in panel.get("transformations", ()) for name in one["options"]["fields"]
    ]
    return (*overrides, *changes)
