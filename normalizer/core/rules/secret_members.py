"""Finds members of a list or an object that their neighbours make secret.

Source: docs/spec/wire-shapes.md#r7: lists of arguments, and names with their values.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from normalizer.core.rules.redaction import REDACTED, Secrecy
from normalizer.core.rules.secret_commands import secrets_in_words
from normalizer.core.rules.secret_text import SecretText
from normalizer.core.rules.secret_values import is_worth
from normalizer.jsontext import Json

_NAME_KEYS: Final = frozenset(
    "name key field param parameter variable var env header property prop attribute attr option"
    " setting k".split()
)
_KIND_KEYS: Final = frozenset(("type", "id", "label", "title"))
"""Keys of form fields: their value counts only if it names a password."""
_JWK_SECRETS: Final = frozenset("d p q dp dq qi k oth".split())
_VALUE_KEYS: Final = frozenset(
    spelled
    for key in (
        *("value", "val", "v", "values", "default", "content", "data", "text", "default_value"),
        *("current_value", "new_value", "old_value", "string_value", "old", "new", "from", "to"),
        *("before", "after", "previous", "current"),
    )
    for camel in (key.title().replace("_", ""),)
    for spelled in (key, key.upper(), camel, camel[0].lower() + camel[1:])
)
_NONE: Final[frozenset[str]] = frozenset()
_KUBERNETES_SECRETS: Final = frozenset(("data", "stringData"))
_SAYS_SECRET: Final = (
    "secret",
    "sensitive",
    "isSecret",
    "is_secret",
    "isSensitive",
    "is_sensitive",
)
_ENDS_OF_NAMES: Final = ("Name", "Key", "_name", "_key")
_LONGEST_COMMAND: Final = 1000
"""Of a longer list only options that name what they hold are looked at."""


class SecretMembers:
    """Finds members of lists and objects that their neighbours make secret."""

    def __init__(self, text: SecretText) -> None:
        self._text = text

    def keys(self, tree: dict[str, Json]) -> frozenset[str]:
        """Give the keys of secret values: `value` in {"name": "DB_PASSWORD", "value": x}."""
        if len(tree) < 2:
            return _NONE
        if "kty" in tree:
            return _JWK_SECRETS
        if tree.get("kind") == "Secret":
            return _KUBERNETES_SECRETS
        has_value = not _VALUE_KEYS.isdisjoint(tree)
        if has_value and any(tree.get(flag) is True for flag in _SAYS_SECRET):
            return _VALUE_KEYS
        for key, name in tree.items():
            if not isinstance(name, str):
                continue
            if has_value and self._names_secret(key.lower(), name, tree):
                return _VALUE_KEYS
            if (
                key.endswith(_ENDS_OF_NAMES)
                and (value_keys := _value_keys(key) & tree.keys())
                and self._text.secrecy(name) is not Secrecy.NOTHING
            ):
                return value_keys
        return _NONE

    def _names_secret(self, key: str, name: str, tree: dict[str, Json]) -> bool:
        if key in _NAME_KEYS or (key == "path" and "op" in tree):
            return self._text.secrecy(name) is not Secrecy.NOTHING
        return key in _KIND_KEYS and self._text.secrecy(name) is Secrecy.NUMBERS_TOO

    def items(self, items: list[Json]) -> Iterator[tuple[int, str]]:
        """Give the index and the replacement of each secret item; the list begins with text."""
        words = [item if type(item) is str else "" for item in items]
        if len(words) == 2 and self._text.hides_plainly(*words):
            yield 1, REDACTED
        for at, start, end in secrets_in_words(words[:_LONGEST_COMMAND], self._text.hides_plainly):
            if is_worth(words[at][start:end], loose=True):
                yield at, f"{words[at][:start]}{REDACTED}{words[at][end:]}"
        for at, (option, value) in enumerate(pairwise(words), 1):
            if not option.startswith("-") or not value or value.startswith("-"):
                continue
            if "=" not in option and self._text.hides(option, value):
                yield at, REDACTED


def _value_keys(name_key: str) -> frozenset[str]:
    """Give the keys beside which `name_key` is a name: `envValue` beside `envName`."""
    stem = name_key[: -len("Name")] if name_key.endswith("ame") else name_key[: -len("Key")]
    return frozenset((f"{stem}value", f"{stem}Value"))
