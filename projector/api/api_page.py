"""Renders the OpenAPI document as an HTML page, which the dashboard links to as "API"."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final
from urllib.parse import quote, urlencode

from projector.api.api_errors import ERRORS, title_of

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>API · Projector</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/page.css">
<script src="/assets/theme.js"></script>
</head>
<body>
<main class="api">
<p><a href="/" class="back">← Dashboard</a></p>
<h1>HTTP API</h1>
"""
_TAIL: Final = "</main>\n</body>\n</html>\n"


def as_html(openapi: dict[str, Any]) -> bytes:
    """The page, in UTF-8. `openapi` is the document that `openapi.document` returns."""
    return "".join(
        [_HEAD, *_intro(openapi), *_contents(openapi), *_endpoints(openapi), *_problems(), _TAIL]
    ).encode()


def _intro(openapi: dict[str, Any]) -> Iterator[str]:
    yield f"<p>{escape(openapi['info']['description'])}</p>\n"
    yield (
        "<p>Only GET and HEAD are served. For programs, the same description is an "
        '<a href="/openapi.json">OpenAPI document</a>. <code>Accept: text/csv</code> gives the '
        "rows of an answer as CSV. Errors are <code>application/problem+json</code> (RFC 9457), of "
        '<a href="#errors">these kinds</a>.</p>\n'
    )
    token = openapi["components"]["securitySchemes"]["token"]["description"]
    yield (
        "<p>With a token, every request needs <code>Authorization: Bearer TOKEN</code>. "
        f"{escape(token)}</p>\n"
    )


def _contents(openapi: dict[str, Any]) -> Iterator[str]:
    """Every path by what it is about."""
    for tag in openapi["tags"]:
        yield f"<h2>{escape(tag['name'].capitalize())}</h2>\n<ul>\n"
        for path, operations in openapi["paths"].items():
            operation = operations["get"]
            if tag["name"] in operation["tags"]:
                yield (
                    f'<li><a href="#{operation["operationId"]}"><code>{escape(path)}</code></a> '
                    f"{escape(operation['summary'])}</li>\n"
                )
        yield "</ul>\n"


def _endpoints(openapi: dict[str, Any]) -> Iterator[str]:
    for path, operations in openapi["paths"].items():
        operation = operations["get"]
        yield f'<section id="{operation["operationId"]}">\n<h2><code>{escape(path)}</code></h2>\n'
        yield f"<p>{escape(operation['summary'])}</p>\n"
        in_query = [one for one in operation["parameters"] if one["in"] == "query"]
        if in_query:
            yield "<dl>\n"
            for parameter in in_query:
                meaning = re.sub("`([^`]+)`", r"<code>\1</code>", escape(_meaning(parameter)))
                yield f"<dt><code>{escape(parameter['name'])}</code></dt><dd>{meaning}</dd>\n"
            yield "</dl>\n"
        yield f"<pre><code>{escape(example_of(path, operation))}</code></pre>\n</section>\n"


def example_of(path: str, operation: dict[str, Any]) -> str:
    """A command that sends an example request."""
    given = {one["name"]: one["example"] for one in operation["parameters"] if one.get("example")}
    query = f"?{urlencode(given, quote_via=quote)}" if given else ""
    return f"curl -s '127.0.0.1:8384{path}{query}'"


def _problems() -> Iterator[str]:
    yield '<h2 id="errors">Errors</h2>\n<dl>\n'
    for error in ERRORS:
        yield (
            f'<dt id="{error.reason}"><code>{error.status} {error.reason}</code></dt>'
            f"<dd>{escape(title_of(error))}.</dd>\n"
        )
    yield "</dl>\n"


def _meaning(parameter: dict[str, Any]) -> str:
    """Its description, the values that it accepts, and its default."""
    schema = parameter["schema"]
    item = schema.get("items", schema)
    sentences = [parameter["description"]]
    if "enum" in item:
        sentences.append(f"Values: {', '.join(str(one) for one in item['enum'])}.")
    default = schema.get("default")
    if default not in (None, ""):
        text = ", ".join(default) if isinstance(default, tuple | list) else default
        sentences.append(f"Default: {text}.")
    return " ".join(one for one in sentences if one) or "A filter."
