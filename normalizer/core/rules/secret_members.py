"""Finds members of a list or an object that their neighbours make secret.

Source: docs/spec/wire-shapes.md#r7: lists of arguments, and names with their values.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from normalizer.core.rules.redaction import REDACTED, Secrecy
from normalizer.core.rules.secret_text import SecretText
from normalizer.jsontext import Json

_NAME_KEYS: Final = frozenset(
    "name key field param parameter variable var env header property attribute option setting k"
    "".split()
)
_KIND_KEYS: Final = frozenset(("type", "id", "label", "title"))
"""Keys of form fields: their value counts only if it names a password."""
_JWK_SECRETS: Final = frozenset("d p q dp dq qi k oth".split())
_VALUE_KEYS: Final = frozenset(
    spelled
    for key in (
        *("value", "val", "v", "values", "default", "content", "data", "text", "default_value"),
        *("current_value", "new_value", "old_value", "string_value"),
    )
    for camel in (key.title().replace("_", ""),)
    for spelled in (key, key.upper(), camel, camel[0].lower() + camel[1:])
)
_NONE: Final[frozenset[str]] = frozenset()
_HOLDS_PAIR: Final = _VALUE_KEYS | {"kty"}
_PASSWORD_OPTIONS: Final = {"sshpass": ("-p",), "login": ("-p",), "redis-cli": ("-a",)}
_USER_OPTIONS: Final = ("-u", "-U", "--user", "--proxy-user")
_GLUED: Final = ("mysql", "mariadb")
"""Programs that read a password after `-p` without a blank."""


class SecretMembers:
    """Finds members of lists and objects that their neighbours make secret."""

    def __init__(self, text: SecretText) -> None:
        self._text = text

    def keys(self, tree: dict[str, Json]) -> frozenset[str]:
        """Give the keys of secret values: `value` in {"name": "DB_PASSWORD", "value": x}."""
        if _HOLDS_PAIR.isdisjoint(tree):
            return _NONE  # nearly always
        if "kty" in tree:
            return _JWK_SECRETS
        for key, name in tree.items():
            if isinstance(name, str) and self._names_secret(key.lower(), name):
                return _VALUE_KEYS
        return _NONE

    def _names_secret(self, key: str, name: str) -> bool:
        if key in _NAME_KEYS:
            return self._text.secrecy(name) is not Secrecy.NOTHING
        return key in _KIND_KEYS and self._text.secrecy(name) is Secrecy.NUMBERS_TOO

    def items(self, items: list[Json]) -> Iterator[tuple[int, str]]:
        """Give the index and the replacement of each secret item; the list begins with text."""
        words = [item if type(item) is str else "" for item in items]
        if any(word.startswith("-") for word in words):
            yield from self._arguments(words)
        elif len(words) == 2 and self._text.hides_plainly(*words):
            yield 1, REDACTED

    def _arguments(self, words: list[str]) -> Iterator[tuple[int, str]]:
        programs = {word.rpartition("/")[2] for word in words[:3]}
        options = {o for program in programs for o in _PASSWORD_OPTIONS.get(program, ())}
        is_glued = any(program.startswith(_GLUED) for program in programs)
        for at, (option, value) in enumerate(pairwise(words), 1):
            if is_glued and value.startswith("-p") and len(value) > len("-p"):
                yield at, f"-p{REDACTED}"
            elif not option.startswith("-") or not value or value.startswith("-"):
                continue
            elif option in options or ("=" not in option and self._text.hides(option, value)):
                yield at, REDACTED
            elif option in _USER_OPTIONS and "curl" in programs and ":" in value:
                yield at, f"{value.partition(':')[0]}:{REDACTED}"
