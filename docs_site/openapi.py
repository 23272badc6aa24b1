"""Write docs/openapi.json, the contract of the HTTP API: `python -m docs_site.openapi`.

It has one line for each path and each schema, so that a diff shows what changed. The examples are
left out: `/openapi.json` of a running projector has them.
"""

import json
from pathlib import Path
from typing import Any, Final

from projector.api.endpoints import ENDPOINTS
from projector.api.openapi import build_document

FILE: Final = Path(__file__).parents[1] / "docs" / "openapi.json"


def contract() -> str:
    """Return the text of docs/openapi.json."""
    found = _without_examples(build_document(ENDPOINTS, token=False))
    parts = [f'"{name}": {_line(found[name])}' for name in ("openapi", "info")]
    parts.append(f'"paths": {_lines(found["paths"])}')
    parts.append(f'"schemas": {_lines(found["components"]["schemas"])}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _without_examples(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_examples(inner)
            for name, inner in value.items()
            if name not in {"example", "examples"} or not isinstance(inner, dict | list | str)
        }
    if isinstance(value, list | tuple):
        return [_without_examples(inner) for inner in value]
    return value


def _lines(members: dict[str, Any]) -> str:
    lines = ",\n".join(f" {json.dumps(name)}: {_line(inner)}" for name, inner in members.items())
    return "{\n" + lines + "\n}"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    FILE.write_text(contract())
