"""Renders the OpenAPI document as an HTML page, which the dashboard links to as "API"."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from projector.api.api_errors import API_ERRORS, error_title

_ANY_INTEGER: Final = 2**31 - 1
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


def api_reference_as_html(openapi: dict[str, Any]) -> bytes:
    """Return the page in UTF-8. `openapi` is the result of `openapi.document`."""
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
        "<p>With a token, every path below needs <code>Authorization: Bearer TOKEN</code>. "
        f"{escape(token)}</p>\n"
    )


def _contents(openapi: dict[str, Any]) -> Iterator[str]:
    """Yield every path by its subject."""
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
    schemas = openapi["components"]["schemas"]
    for path, operations in openapi["paths"].items():
        operation = operations["get"]
        yield f'<section id="{operation["operationId"]}">\n<h2><code>{escape(path)}</code></h2>\n'
        yield f"<p>{escape(operation['summary'])}</p>\n"
        yield from _terms({one["name"]: _meaning(one) for one in operation["parameters"]})
        yield f"<pre><code>{escape(example_curl_command(path, operation))}</code></pre>\n"
        for media_type, content in operation["responses"]["200"]["content"].items():
            yield from _answer(media_type, content, schemas)
        yield "</section>\n"


def _answer(media_type: str, content: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """Yield an answer's fields and an example."""
    shown = content["examples"]["answer"]
    example = shown["value"]
    text = (
        example
        if isinstance(example, str)
        else msgspec.json.format(msgspec.json.encode(example), indent=2).decode()
    )
    yield f"<details><summary>Answer as {escape(media_type)}</summary>\n"
    schema = resolve_schema(content["schema"], schemas)
    yield f"<p>{_marked(schema.get('description', ''))}</p>\n"
    fields = {
        name: describe_json_schema_type(one) for name, one in schema.get("properties", {}).items()
    }
    yield from _terms(fields)
    if "rows" in fields:
        row = resolve_schema(schema["properties"]["rows"]["items"], schemas)
        yield f"<p>A row: {_marked(row['description'])}</p>\n"
        yield from _terms(
            {name: describe_json_schema_type(one) for name, one in row["properties"].items()}
        )
    yield f"<p>An example. {escape(shown['summary'])}</p>\n"
    yield f'<pre tabindex="0"><code>{escape(text)}</code></pre>\n</details>\n'


def _terms(meanings: dict[str, str]) -> Iterator[str]:
    """Yield names with their meanings."""
    if not meanings:
        return
    yield "<dl>\n"
    for name, meaning in meanings.items():
        yield f"<dt><code>{escape(name)}</code></dt><dd>{_marked(meaning)}</dd>\n"
    yield "</dl>\n"


def _marked(text: str) -> str:
    """Return the text as HTML, with text in backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def example_curl_command(path: str, operation: dict[str, Any]) -> str:
    """Return a command that sends an example request."""
    given = {one["name"]: one for one in operation["parameters"] if "example" in one}
    values = {name: one["example"] for name, one in given.items()}
    query = urlencode(
        {name: values[name] for name, one in given.items() if one["in"] == "query"},
        doseq=True,
        quote_via=quote,
    )
    return f"curl -s '127.0.0.1:8384{path.format(**values)}{query and '?'}{query}'"


def _problems() -> Iterator[str]:
    yield '<h2 id="errors">Errors</h2>\n<dl>\n'
    for error in API_ERRORS:
        yield (
            f'<dt id="{error.reason}"><code>{error.status} {error.reason}</code></dt>'
            f"<dd>{escape(error_title(error))}.</dd>\n"
        )
    yield "</dl>\n"


def _meaning(parameter: dict[str, Any]) -> str:
    """Return a parameter's description, accepted values, and default."""
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


def describe_json_schema_type(schema: dict[str, Any]) -> str:
    """Return a type in words, such as `text or null` or `list of integer`."""
    if "anyOf" in schema:
        return " or ".join(describe_json_schema_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        *most, last = (str(one) for one in schema["enum"])
        return f"{', '.join(most)} or {last}" if most else last
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    if "prefixItems" in schema:
        return f"[{', '.join(describe_json_schema_type(one) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {describe_json_schema_type(schema.get('items', {}))}"
    if schema.get("format") == "date-time":
        return "time"
    if {"minimum", "maximum"} <= schema.keys() and schema["maximum"] < _ANY_INTEGER:
        return f"{schema['type']}, {schema['minimum']} to {schema['maximum']}"
    return {"string": "text", None: "any JSON"}.get(schema.get("type"), str(schema.get("type")))


def resolve_schema(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema itself if this one only refers to it."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    return schema
