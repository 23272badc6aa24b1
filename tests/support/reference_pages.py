"""Generates pages of docs/: `python -m tests.support.reference_pages` lists which would change.

With --write it writes them:

cli.md   every command of both programs, as --help prints it
api.md   every path of the HTTP API, from its OpenAPI document
"""

import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from normalizer.cli import main as normalizer
from projector.api.api_page import example_of, resolved, type_of
from projector.api.endpoints import ENDPOINTS
from projector.api.openapi import document
from projector.cli import main as projector
from tests.support.doc_pages import DOCS

_GENERATED: Final = "<!-- Generated: python -m tests.support.reference_pages --write -->"
_WIDTH: Final = 100


def generated() -> dict[str, str]:
    """Every generated page, by its name."""
    return {"cli.md": "".join(_cli()), "api.md": "".join(_api())}


def _cli() -> Iterator[str]:
    programs = {"normalizer": normalizer, "projector": projector}
    yield (
        f"# Commands\n\n{_GENERATED}\n\n"
        "Every command as `--help` prints it. `normalizer config` lists the settings of the\n"
        "environment, with their values and defaults.\n\n"
    )
    commands = {
        path: text
        for name, program in programs.items()
        for path, text in _helps(program, name, None)
    }
    for path in commands:
        depth = len(path.split()) - 1
        yield f"{'  ' * depth}- [{path}](#{path.replace(' ', '-')})\n"
    for path, text in commands.items():
        yield f"\n## {path}\n\n```\n{text}\n```\n"


def _helps(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    """A command's path and help, then those of the commands below it, in the order of --help."""
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    context.terminal_width = _WIDTH
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield context.command_path, text
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _helps(found, below, context)


def _api() -> Iterator[str]:
    openapi = document(ENDPOINTS, token=False)
    schemas = openapi["components"]["schemas"]
    paths = {path: one["get"] for path, one in openapi["paths"].items()}
    first = next(iter(paths.values()))
    yield (
        f"# HTTP API\n\n{_GENERATED}\n\n"
        "`projector serve` serves these paths; its dashboard uses nothing else. The same list\n"
        "is an OpenAPI document (`/openapi.json`) and a page (`/api`). Only GET and HEAD are\n"
        "served. With a token, each path under `/api/v1` needs the header\n"
        "`Authorization: Bearer TOKEN`.\n\n"
    )
    yield openapi["info"]["description"] + "\n"
    for tag in openapi["tags"]:
        yield f"\n### {tag['name'].capitalize()}\n\n| path | question |\n|---|---|\n"
        for path, one in paths.items():
            if tag["name"] in one["tags"]:
                yield f"| [{path}](#{_anchor(path)}) | {_cell(one['summary'])} |\n"
    yield (
        "\n## Every answer\n\nJSON. An id is a 64-bit number, written as a string. With the\n"
        "header `Accept: text/csv` the rows come as CSV, with `Accept-Encoding: gzip` compressed.\n"
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
        cells = (f"`{parameter['name']}`", type_of(parameter["schema"]), meaning)
        yield f"| {' | '.join(_cell(one) for one in cells)} |\n"
    yield f"\n```\n{example_of(path, one)}\n```\n"
    media_type, content = next(iter(one["responses"]["200"]["content"].items()))
    answer = resolved(content["schema"], schemas)
    fields = answer.get("properties", {})
    described = _line(answer.get("description", one["responses"]["200"]["description"]))
    if "rows" not in fields:
        listed = f" {', '.join(f'`{name}`' for name in fields)}." if fields else ""
        yield f"\nAnswer, as {media_type}:{listed} {described}\n"
        return
    row = resolved(fields["rows"]["items"], schemas)
    yield f"\nAnswer: {', '.join(f'`{name}`' for name in fields)}. {described}\n"
    yield f"\nA row: {_line(row['description'])}\n\n"
    for name, schema in row["properties"].items():
        said = f": {schema['description']}" if "description" in schema else ""
        yield f"- `{name}`, {type_of(schema)}{said}\n"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _line(description: str) -> str:
    return " ".join(description.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Say which pages would change; with --write, write them."""
    for name, text in generated().items():
        path = DOCS / name
        if path.exists() and path.read_text() == text:
            continue
        if "--write" in sys.argv[1:]:
            path.write_text(text)
        print(name)  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
