"""Finds members of a list or an object that are secret because of the members beside them.

For example, x is secret in {"name": "DB_PASSWORD", "value": x}, and so is the word after
`--password` in a list of arguments. Source: docs/spec/wire-shapes.md#r7.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from normalizer.core.redaction.secret_commands import find_secrets_in_words
from normalizer.core.redaction.secret_names import REDACTED, SecrecyLevel
from normalizer.core.redaction.secret_text import TextRedactor
from normalizer.core.redaction.secret_values import may_be_secret
from normalizer.jsontext import Json

NEVER_SECRET_KEYS: Final = frozenset(
    (
        *("event_id", "execution_id", "event_type", "name", "step", "node_name", "status"),
        *("created_at", "timestamp", "event_time", "ingest_time", "worker_id", "command_id"),
        *("catalog_id", "parent_event_id", "parent_execution_id", "node_type", "duration"),
        *("context", "payload", "result", "meta", "events", "records"),
    )
)
"""The envelope's own keys. A word that an operator adds never makes their values secret. For
example, with the word `name`, node_name must still name the step."""

_NAME_KEYS: Final = frozenset(
    "name key field param parameter variable var env header property prop attribute attr option"
    " setting k".split()
)
_KIND_KEYS: Final = frozenset(("type", "id", "label", "title"))
"""Keys of form fields. They make a value secret only if they name a password."""
_EVENT_KEYS: Final = NEVER_SECRET_KEYS | _KIND_KEYS
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
"""In a longer list, look only for options that name their content."""


class SecretByNeighborFinder:
    """Finds members of lists and objects that are secret because of the members beside them."""

    def __init__(self, text: TextRedactor) -> None:
        self._text = text

    def may_find_secrets(self, keys: Iterable[str], *, at_top: bool) -> bool:
        """Return whether `keys` could find anything in an object with these keys."""
        own = {key for key in keys if not (at_top and key in _EVENT_KEYS)}
        if len(own) < 2:
            return False
        return (
            not _VALUE_KEYS.isdisjoint(own)
            or "kty" in own
            or ("kind" in own and not _KUBERNETES_SECRETS.isdisjoint(own))
            or any(key.endswith(_ENDS_OF_NAMES) and _value_keys(key) & own for key in own)
        )

    def secret_keys(self, tree: dict[str, Json], *, at_top: bool) -> frozenset[str]:
        """Return the keys of secret values, such as `value` in {"name": "DB_PASSWORD", "value": x}.

        At the top level of an event, the event's own fields and its ids are ignored. For example,
        an event's `name` is the name of its type, so it doesn't describe another value.
        """
        if at_top:
            tree = {key: value for key, value in tree.items() if key not in _EVENT_KEYS}
        if len(tree) < 2:
            return _NONE
        found = _JWK_SECRETS if "kty" in tree else _NONE
        if tree.get("kind") == "Secret":
            found |= _KUBERNETES_SECRETS
        has_value = not _VALUE_KEYS.isdisjoint(tree)
        if has_value and any(tree.get(flag) is True for flag in _SAYS_SECRET):
            found |= _VALUE_KEYS
        for key, name in tree.items():
            if type(name) is not str:
                continue
            if has_value and self._names_secret(key.lower(), name, tree):
                found |= _VALUE_KEYS
            if (
                key.endswith(_ENDS_OF_NAMES)
                and (value_keys := _value_keys(key) & tree.keys())
                and self._text.secrecy(name) is not SecrecyLevel.NOTHING
            ):
                found |= value_keys
        return found

    def _names_secret(self, key: str, name: str, tree: dict[str, Json]) -> bool:
        if key in _NAME_KEYS or (key == "path" and "op" in tree):
            return self._text.secrecy(name) is not SecrecyLevel.NOTHING
        return key in _KIND_KEYS and self._text.secrecy(name) is SecrecyLevel.NUMBERS_TOO

    def secret_item_replacements(self, items: list[Json]) -> Iterator[tuple[int, str]]:
        """Return the index and the replacement of each secret item."""
        words = [item if type(item) is str else "" for item in items]
        if len(words) == 2 and self._text.is_secret_unless_word(*words):
            yield 1, REDACTED
        for at, start, end in find_secrets_in_words(
            words[:_LONGEST_COMMAND], self._text.is_secret_unless_word
        ):
            if may_be_secret(words[at][start:end], loose=True):
                yield at, f"{words[at][:start]}{REDACTED}{words[at][end:]}"
        for at, (option, value) in enumerate(pairwise(words), 1):
            if not option.startswith("-") or not value or value.startswith("-"):
                continue
            if "=" not in option and self._text.is_secret_by_name(option, value):
                yield at, REDACTED


def _value_keys(name_key: str) -> frozenset[str]:
    """Return the keys whose values `name_key` names: `envValue` for `envName`."""
    stem = name_key[: -len("Name")] if name_key.endswith("ame") else name_key[: -len("Key")]
    return frozenset((f"{stem}value", f"{stem}Value"))
