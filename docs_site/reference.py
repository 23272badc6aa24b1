"""The generated pages of the site: commands, settings, HTTP API, views, metrics, alerts."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import click
import yaml
from prometheus_client.parser import text_string_to_metric_families

from normalizer.cli import main as normalizer
from normalizer.config.settings import (
    SETTING_FIELDS,
    environment_variable,
    field_meta,
    is_secret_field,
)
from normalizer.observability.metric_catalog import metric_table_lines
from projector.api.api_metrics import ApiMetrics
from projector.api.api_reference import (
    describe_json_schema_type,
    example_curl_command,
    resolve_schema,
)
from projector.api.endpoints import ENDPOINTS
from projector.api.openapi import build_document
from projector.cli import main as projector
from projector.views.catalog import VIEWS
from projector.views.operator_questions import OPERATOR_QUESTIONS
from tests.chart import value_rows

ROOT: Final = Path(__file__).parents[1]
_WIDTH: Final = 100


def generated() -> dict[str, str]:
    """Return every generated page by its path on the site."""
    return {
        "reference/commands.md": "".join(_commands()),
        "reference/chart.md": "\n".join(_chart()) + "\n",
        "reference/settings.md": "\n".join(_settings()) + "\n",
        "reference/api.md": "".join(_api()),
        "reference/views.md": "\n".join(_views()) + "\n",
        "reference/questions.md": "\n".join(_questions()) + "\n",
        "reference/metrics.md": "\n".join(_metrics()) + "\n",
        "reference/alerts.md": "\n".join(_alerts()) + "\n",
    }


def _commands() -> Iterator[str]:
    programs = {"normalizer": normalizer, "projector": projector}
    yield "# Commands\n\nEvery command, as `--help` prints it.\n\n"
    helps = {
        path: text
        for name, program in programs.items()
        for path, text in _helps(program, name, None)
    }
    for path, text in helps.items():
        yield f"\n## {path}\n\n```\n{text}\n```\n"


def _helps(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    """Yield a command's path and help, then those of the commands below it."""
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    context.terminal_width = _WIDTH
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield context.command_path, text
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _helps(found, below, context)


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "Settings are environment variables. `normalizer config` prints them with your values,"
    yield "and `normalizer check` tries them. The options of `projector serve` are settings too:"
    yield "[commands](commands.md#projector-serve).\n"
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for field in SETTING_FIELDS:
        value = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
        default = "not set" if is_secret_field(field) or value in {None, ""} else f"`{value}`"
        meaning = _cell(_line(field_meta(field).description or ""))
        yield f"| `{environment_variable(field.name)}` | {default} | {meaning} |"


def _chart() -> Iterator[str]:
    yield "# Chart values\n"
    yield "`helm show values deploy/helm/event-normalizer` prints them too.\n"
    yield "| value | default | meaning |"
    yield "|---|---|---|"
    for path, default, meaning in value_rows():
        yield f"| `{path}` | `{_cell(default)}` | {_cell(meaning)} |"


def _api() -> Iterator[str]:
    openapi = build_document(ENDPOINTS, token=False)
    schemas = openapi["components"]["schemas"]
    paths = {path: one["get"] for path, one in openapi["paths"].items()}
    first = next(iter(paths.values()))
    yield (
        "# HTTP API\n\n"
        "`projector serve` serves these paths, and its dashboard uses nothing else. You find\n"
        "the same list as an OpenAPI document (`/openapi.json`) and as a page (`/api`). Only GET\n"
        "and HEAD are served. If you set a token, each path under `/api/v1` needs the header\n"
        "`Authorization: Bearer TOKEN`.\n\n"
    )
    yield openapi["info"]["description"] + "\n"
    for tag in openapi["tags"]:
        yield f"\n### {tag['name'].capitalize()}\n\n| path | question |\n|---|---|\n"
        for path, one in paths.items():
            if tag["name"] in one["tags"]:
                yield f"| [{path}](#{_anchor(path)}) | {_cell(one['summary'])} |\n"
    yield (
        "\n## Every answer\n\nAnswers are JSON. An id is a 64-bit number, so it's written as\n"
        "a string. With the header `Accept: text/csv` the rows come as CSV, with\n"
        "`Accept-Encoding: gzip` compressed.\n"
        "An error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`,\n"
        "and `reason`, which is the word in this table:\n\n"
    )
    yield "| status | when |\n|---|---|\n"
    for status, response in first["responses"].items():
        yield f"| {status} | {_cell(response['description'])} |\n"
    for path, one in paths.items():
        yield from _endpoint(path, one, schemas)


def _endpoint(path: str, one: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {path}\n\n{one['summary']}\n"
    if one["parameters"]:
        yield "\n| parameter | type | meaning |\n|---|---|---|\n"
    for parameter in one["parameters"]:
        meaning = parameter["description"]
        default = parameter["schema"].get("default")
        if default not in (None, ""):
            given = ", ".join(default) if isinstance(default, tuple) else default
            meaning = f"{meaning} Default: {given}."
        cells = (f"`{parameter['name']}`", describe_json_schema_type(parameter["schema"]), meaning)
        yield f"| {' | '.join(_cell(one) for one in cells)} |\n"
    yield f"\n```\n{example_curl_command(path, one)}\n```\n"
    media_type, content = next(iter(one["responses"]["200"]["content"].items()))
    answer = resolve_schema(content["schema"], schemas)
    fields = answer.get("properties", {})
    described = _line(answer.get("description", one["responses"]["200"]["description"]))
    if "rows" not in fields:
        listed = f" {', '.join(f'`{name}`' for name in fields)}." if fields else ""
        yield f"\nAnswer, as {media_type}:{listed} {described}\n"
        return
    row = resolve_schema(fields["rows"]["items"], schemas)
    yield f"\nAnswer: {', '.join(f'`{name}`' for name in fields)}. {described}\n"
    yield f"\nA row: {_line(row['description'])}\n\n"
    for name, schema in row["properties"].items():
        said = f": {schema['description']}" if "description" in schema else ""
        yield f"- `{name}`, {describe_json_schema_type(schema)}{said}\n"


def _views() -> Iterator[str]:
    yield "# Views\n"
    yield "The views of schema `projector`, in the order in which you need them as an operator."
    yield "[Query the views](../sql.md) says how to read them.\n"
    described = json.loads((ROOT / "docs" / "views.json").read_text())
    examples = {view.name: view.example for view in VIEWS}
    for view in described:
        yield f"## {view['name']}\n\n{view['comment']}\n"
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        for column in view["columns"]:
            yield f"| {column['name']} | {column['type']} | {column['meaning']} |"
        yield f"\n```sql\n{dedent(examples[view['name']]).strip()};\n```\n"


def _questions() -> Iterator[str]:
    yield "# SQL recipes\n"
    yield "Questions that operators ask, each with the query that answers it. All of them read the"
    yield "[views](views.md), so the role `projector_reader` is enough.\n"
    for question in OPERATOR_QUESTIONS:
        yield f"## {question.question}\n"
        yield f"```sql\n{dedent(question.query).strip()};\n```\n"


def _metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield "[Probes and objectives](../metrics.md) says where they are served.\n"
    yield "## Normalizer\n"
    yield from metric_table_lines()
    yield "\n## Projector\n"
    yield "| name | type | meaning |"
    yield "|---|---|---|"
    for family in text_string_to_metric_families(ApiMetrics().to_exposition_bytes().decode()):
        if not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield f"| `{name}` | {family.type} | {_cell(family.documentation)} |"


def _alerts() -> Iterator[str]:
    yield "# Alerts: the list of all, with their thresholds\n"
    yield "The rules are in `deploy/prometheus/alerts.yml`. A page needs somebody now, a ticket"
    yield "today. An info needs nobody. To silence or mute one, match its `alertname` in"
    yield "Alertmanager.\n"
    yield "| alert | severity | meaning | what to do |"
    yield "|---|---|---|---|"
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for alert in (rule for group in groups for rule in group["rules"]):
        notes = alert["annotations"]
        page = notes["runbook_url"].removeprefix("docs/")
        cells = (notes["summary"], notes["do"])
        yield (
            f"| [{alert['alert']}](../{page}) | {alert['labels']['severity']} "
            f"| {' | '.join(map(_cell, cells))} |"
        )


def figures() -> str:
    """Return the figures of docs/results.csv as a table, for the page of results."""
    rows = csv.reader((ROOT / "docs" / "results.csv").read_text().splitlines())
    head, *body = (" | ".join(map(_cell, row)) for row in rows)
    return "\n".join(f"| {row} |" for row in [head, "---|---|---|---|---", *body])


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _line(description: str) -> str:
    return " ".join(description.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
