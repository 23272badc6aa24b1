"""Describes the endpoints as an OpenAPI document.

It's generated from the types that the server itself uses to parse requests and to encode answers.
So the document can't differ from what the server does. The example answers are real ones, from a
database with three hours of history. `python -m tests.support.api_examples` stores them in
examples.json.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from projector.api import event_download
from projector.api.api_errors import API_ERRORS, Problem
from projector.api.api_index import IndexedPath
from projector.api.endpoints import API_PATH, ENDPOINTS_BY_TAG, Endpoint
from projector.api.parameters import Id, Parameters
from projector.api.query_strings import PARAMETER_ALIASES, is_list_parameter, parse_query_string
from projector.api.responses import CLOCK_FIELDS_HEADER
from projector.api.service_routes import SETTINGS_PATH
from projector.api.visible_settings import VisibleSettings

_REF: Final = "#/components/schemas/{name}"
_TOKEN: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "The value of PROJECTOR_TOKEN. Without that setting, the server answers "
        "only local host names, and needs no token.",
    }
}
_ANSWERED: Final = {
    "ETag": {
        "description": "Send it as If-None-Match: the response is 304 if the rows are the same.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'The next page of a list, as `<address>; rel="next"`. Left out on the last.',
        "schema": {"type": "string"},
    },
    CLOCK_FIELDS_HEADER: {
        "description": "How fresh the rows are, even in a 304: as_of, behind_s, read_at, and the "
        "window's bounds that move with the clock, as JSON. For CSV it has all fields of the "
        "answer except its rows, such as next and truncated.",
        "schema": {"type": "string"},
    },
}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds, if a retry may help.",
        "schema": {"type": "integer"},
    }
}

_SHORTENED: Final = "Rows that show no new field are left out."

_EXECUTION: Final = {"execution_id": "$response.body#/rows/0/execution_id"}
_LINKS: Final = {
    "executions": {
        "execution": {"operationId": "execution", "parameters": _EXECUTION},
        "its calls": {"operationId": "execution_calls", "parameters": _EXECUTION},
        "its loops": {"operationId": "execution_loops", "parameters": _EXECUTION},
        "its events": {"operationId": "execution_events", "parameters": _EXECUTION},
    },
    "execution_events": {
        "event": {
            "operationId": "execution_event",
            "parameters": {
                "execution_id": "$request.path.execution_id",
                "event_id": "$response.body#/rows/0/event_id",
            },
        },
    },
}


EXAMPLES_FILE: Final = "examples.json"


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An example request and its answer, for the OpenAPI document.

    `path` has a value for each parameter in the endpoint's path, such as the id of an execution.
    `answer` is the body: JSON, or text for a download. `csv` is the same answer as CSV. To keep the
    document short, a row is left out if earlier rows already show a value of the same type in each
    of its fields.
    """

    path: dict[str, str] = {}
    answer: Any = None
    csv: str = ""


def read_examples() -> Mapping[str, RecordedRequest]:
    """Return the example of each operation by operationId, or an empty one for a new operation."""
    content = files("projector.api").joinpath(EXAMPLES_FILE).read_bytes()
    return defaultdict(
        RecordedRequest, msgspec.json.decode(content, type=dict[str, RecordedRequest])
    )


def build_document(endpoints: Sequence[Endpoint], *, token: bool) -> dict[str, Any]:
    """Build the OpenAPI 3.1 document. `token` says whether requests need one."""
    (*answers, settings, _), components = msgspec.json.schema_components(
        [*(endpoint.answer_type for endpoint in endpoints), VisibleSettings, Problem],
        ref_template=_REF,
    )
    known = read_examples()
    components["Problem"]["examples"] = [known["problem"].answer]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Projections of canonical events",
            "version": version("event-normalizer"),
            "description": "Read-only answers from the views of schema projector. Each answer says "
            "how fresh it is. A failed query returns an error and never an empty answer. "
            "Paths that count share one grammar: `by` names the keys to group by, `every` is the "
            "width of `at`, `last` or `since` and `until` are the window, `window=before` is the "
            "window of the same length before it, `limit` is the number of groups, and each other "
            "parameter is a filter, which may be repeated. For example, "
            "`/api/v1/error-rate-by-attempt?last=24h&by=at&every=hour&step=fetch` is the error "
            "rate of one step, hour by hour. `/api/v1` lists every path with its question.",
        },
        "tags": [{"name": tag} for tag in ENDPOINTS_BY_TAG],
        "paths": {
            **{
                API_PATH + endpoint.path: {
                    "get": _operation(endpoint, answer, known[endpoint.name])
                }
                for endpoint, answer in zip(endpoints, answers, strict=True)
            },
            API_PATH: {"get": _index()},
            API_PATH + event_download.DOWNLOAD_PATH: {"get": _download(known["download_events"])},
            API_PATH + SETTINGS_PATH: {"get": _settings(settings, known["settings"])},
        },
        "components": {"schemas": components, "securitySchemes": _TOKEN},
        "security": [{"token": []}] if token else [{}, {"token": []}],
    }


def _index() -> dict[str, Any]:
    rows = {
        "type": "array",
        "items": msgspec.json.schema_components([IndexedPath])[1]["IndexedPath"],
    }
    return {
        "operationId": "index",
        "summary": "Which questions does this API answer?",
        "tags": ["overview"],
        "parameters": [_parameter(msgspec.structs.fields(Parameters)[0], {})],
        "responses": {
            "200": {
                "description": "The paths. As CSV with a header line.",
                "content": {
                    "application/json": {
                        "schema": {"type": "object", "properties": {"rows": rows}},
                        "examples": _examples(
                            {
                                "rows": [
                                    {
                                        "path": "/api/v1/tiles",
                                        "question": "How are things?",
                                        "tag": "overview",
                                    }
                                ]
                            },
                            "One of its rows.",
                        ),
                    },
                    "text/csv": {
                        "schema": {"type": "string"},
                        "examples": _examples(
                            "path,question,tag\r\n/api/v1/tiles,How are things?,overview\r\n",
                            "One of its rows.",
                        ),
                    },
                },
            },
            **_problems(),
        },
    }


def _operation(
    endpoint: Endpoint, answer: dict[str, Any], example: RecordedRequest
) -> dict[str, Any]:
    given = _values(endpoint)
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [
            *_placeholders(endpoint.path, example.path),
            *(
                _parameter(field, given)
                for field in msgspec.structs.fields(endpoint.parameters_type)
            ),
        ],
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": _ANSWERED,
                "content": {
                    "application/json": {
                        "schema": answer,
                        "examples": _examples(example.answer, _SHORTENED),
                    },
                    "text/csv": {
                        "schema": {
                            "type": "string",
                            "description": "The rows, with a header line.",
                        },
                        "examples": _examples(example.csv, _SHORTENED),
                    },
                },
                "links": _LINKS.get(endpoint.name, {}),
            },
            "304": {
                "description": "The rows are the same as for that ETag.",
                "headers": _ANSWERED,
            },
            **_problems(),
        },
    }


def _download(example: RecordedRequest) -> dict[str, Any]:
    """Describe the operation that isn't an endpoint and streams a file."""
    return {
        "operationId": "download_events",
        "summary": event_download.DOWNLOAD_SUMMARY,
        "tags": ["executions"],
        "parameters": _placeholders(event_download.DOWNLOAD_PATH, example.path),
        "responses": {
            "200": {
                "description": "The file.",
                "content": {
                    event_download.NDJSON_MEDIA_TYPE: {
                        "schema": {"type": "string"},
                        "examples": _examples(example.answer, "An execution of two events."),
                    }
                },
            },
            **_problems(),
        },
    }


def _settings(answer: dict[str, Any], example: RecordedRequest) -> dict[str, Any]:
    """Describe the operation that needs no database."""
    return {
        "operationId": "settings",
        "summary": "Which thresholds are set, where is Grafana, and what is to be read from Kafka?",
        "tags": ["overview"],
        "parameters": [],
        "responses": {
            "200": {
                "description": "The settings.",
                "content": {
                    "application/json": {
                        "schema": answer,
                        "examples": _examples(example.answer, "The defaults."),
                    }
                },
            },
            **_problems(),
        },
    }


def _placeholders(path: str, given: Mapping[str, str]) -> list[dict[str, Any]]:
    described = msgspec.json.schema(Id)
    description = described.pop("description")
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": described,
            "example": given.get(name),
        }
        for name in re.findall(r"{(\w+)}", path)
    ]


def _values(endpoint: Endpoint) -> dict[str, Any]:
    """Return the parameters of the example request as JSON values."""
    params: Parameters = parse_query_string(
        urlencode(endpoint.example).encode(), endpoint.parameters_type
    )
    return {name: msgspec.to_builtins(getattr(params, name)) for name in endpoint.example}


def _examples(value: Any, summary: str) -> dict[str, Any]:
    return {"answer": {"summary": summary, "value": value}}


def _problems() -> dict[str, Any]:
    return {
        str(status): {
            "description": " ".join(
                f"{error.reason}: {error.__doc__}" for error in API_ERRORS if error.status == status
            ),
            "content": {
                "application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}
            },
            **(
                {"headers": _RETRY_AFTER}
                if any(error.retry_after_s for error in API_ERRORS if error.status == status)
                else {}
            ),
        }
        for status in sorted({error.status for error in API_ERRORS})
    }


def _parameter(field: msgspec.structs.FieldInfo, example: Mapping[str, Any]) -> dict[str, Any]:
    described = dict(_without_null(msgspec.json.schema(field.type)))
    names = {parameter: name for name, parameter in PARAMETER_ALIASES.items()}
    if field.default not in (None, msgspec.NODEFAULT):
        described["default"] = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        described["default"] = field.default_factory()
    return {
        "name": field.name,
        "in": "query",
        "required": field.required,
        "description": " ".join(
            filter(
                None,
                (
                    "Required." if field.required else "",
                    described.pop("description", ""),
                    f"`{names[field.name]}` is the same." if field.name in names else "",
                ),
            )
        ),
        "schema": described,
        **({"example": example[field.name]} if field.name in example else {}),
        **({"style": "form", "explode": True} if is_list_parameter(field) else {}),
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without null, because a parameter can be left out but is never null."""
    alternatives = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if not alternatives:
        return schema
    one: dict[str, Any] = alternatives[0]
    return one
