"""Restores the text and the headers of a stored row as its producer sent them."""

from base64 import b64decode
from collections.abc import Callable

from normalizer.core.decode.headers import BASE64_HEADER_PREFIX, header_text
from normalizer.core.redaction.unstorable import REPLACEMENT_CHARACTER, KeyPath, child_path
from normalizer.jsontext import Json, JsonNumber, parse_json_keeping_numbers


def restore_unstorable(tree: Json, path: KeyPath, marked: Callable[[KeyPath], bool]) -> Json:
    """Replace U+FFFD by U+0000 at every marked path. Takes one stack frame per level."""
    if isinstance(tree, str) and not isinstance(tree, JsonNumber):
        return _marked(tree, path, marked)
    if isinstance(tree, list):
        items: list[Json] = []
        inner = child_path(path, "[]")
        for item in tree:
            items.append(restore_unstorable(item, inner, marked))  # noqa: PERF401 - a comprehension would take two frames per level
        return items
    if isinstance(tree, dict):
        members: dict[str, Json] = {}
        for key, value in tree.items():
            inner = child_path(path, key)
            members[_marked(key, inner, marked)] = restore_unstorable(value, inner, marked)
        return members
    return tree


def _marked(text: str, path: KeyPath, marked: Callable[[KeyPath], bool]) -> str:
    if REPLACEMENT_CHARACTER not in text or not marked(path):
        return text
    return text.replace(REPLACEMENT_CHARACTER, "\0")


def restore_headers(
    headers: bytes | None, marked: Callable[[KeyPath], bool]
) -> tuple[tuple[str, bytes | None], ...]:
    """Return the headers of the record. Values of the same name stay in their order."""
    tree = (
        None
        if headers is None
        else restore_unstorable(parse_json_keeping_numbers(headers.decode()), ("headers",), marked)
    )
    return tuple(
        (name, _header(value))
        for name, values in (tree.items() if isinstance(tree, dict) else ())
        for value in (values if isinstance(values, list) else [values])
    )


def _header(value: Json) -> bytes | None:
    if not isinstance(value, str):
        return None
    if value.startswith(BASE64_HEADER_PREFIX):
        try:
            sent = b64decode(value.removeprefix(BASE64_HEADER_PREFIX), validate=True)
        except ValueError:
            return value.encode()
        # A producer's own text may begin with our prefix.
        return sent if header_text(sent) == value else value.encode()
    return value.encode()
