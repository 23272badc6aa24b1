"""Classifies all keys of an object at once, so that most values needn't be searched for secrets.

Most events have the same keys, so the results are cached by the keys of the object.
"""

import re
from collections.abc import Callable, Collection
from functools import lru_cache, partial
from typing import Final, NamedTuple

from normalizer.core.redaction.secret_by_neighbor import NEVER_SECRET_KEYS, SecretByNeighborFinder
from normalizer.core.redaction.secret_names import SecrecyLevel
from normalizer.core.redaction.secret_text import MIN_SECRET_TEXT_CHARS, TextRedactor
from normalizer.core.redaction.secret_values import MIN_TOKEN_CHARS
from normalizer.core.redaction.unstorable import replace_unstorable
from normalizer.jsontext import Json

_REMEMBERED_CHARS: Final = 500
_MAY_SAY: Final = re.compile("[=:@ ]")
"""A short key without one of these characters is a name, and can't contain a secret value."""


class ObjectKeyFacts(NamedTuple):
    """What an object's keys say about which of its values may be secret.

    - `secrecy` returns which kinds of values are secret under a given key, or None for none.
    - `are_plain` is False if a key itself may contain a secret or text that PostgreSQL can't store.
    - `may_name` is True if one member may say that another one is secret, as in {"name":
      "DB_PASSWORD", "value": x}.
    """

    secrecy: Callable[[str], SecrecyLevel | None]
    are_plain: bool
    may_name: bool


class KeyClassifier:
    """Finds out which values of an object may be secret, by its keys."""

    def __init__(self, texts: TextRedactor, members: SecretByNeighborFinder) -> None:
        self._texts = texts
        self._members = members
        self._remembered: Final = lru_cache(maxsize=2048)(self._remember)

    def classify_keys(self, names: Collection[str], *, at_top: bool) -> ObjectKeyFacts:
        """Return what the keys of an object say about which of its values may be secret.

        Pass `at_top` if the object is an event. An event's own fields, such as `name`, are never
        secret there, even if the same key would be secret in another object.
        """
        keys = "\n".join(names)
        if len(keys) <= _REMEMBERED_CHARS and keys.count("\n") < len(names):
            return self._remembered(keys, at_top)
        return ObjectKeyFacts(
            partial(self._secrecy, at_top=at_top),
            self._are_plain(keys),
            self._members.may_find_secrets(names, at_top=at_top),
        )

    def clean_key(self, key: str) -> str:
        """Return a key without a secret in it. Nearly all keys are short names, which hold none."""
        if len(key) < MIN_TOKEN_CHARS and not _MAY_SAY.search(key):
            return key
        return self._texts.redact_text(key)

    def _remember(self, keys: str, at_top: bool) -> ObjectKeyFacts:  # noqa: FBT001 - for lru_cache
        names = keys.split("\n")
        secret = {
            name: secrecy for name in names if (secrecy := self._secrecy(name, at_top=at_top))
        }
        are_plain = self._are_plain(keys) or all(
            replace_unstorable(name) == name == self.clean_key(name) for name in names
        )
        return ObjectKeyFacts(
            secret.get, are_plain, self._members.may_find_secrets(names, at_top=at_top)
        )

    def _are_plain(self, keys: str) -> bool:
        return replace_unstorable(keys) == keys and not self._texts.may_hold_secret(keys)

    def _secrecy(self, name: str, *, at_top: bool) -> SecrecyLevel | None:
        if at_top and name in NEVER_SECRET_KEYS:
            return None
        secrecy = self._texts.secrecy(name)
        return None if secrecy is SecrecyLevel.NOTHING else secrecy


def value_needs_no_cleaning(value: Json) -> bool:
    """Return whether a quick check shows that a value holds no secret and no unstorable text."""
    if type(value) is not str:
        return not value or not isinstance(value, (list, dict))
    return (
        len(value) < MIN_TOKEN_CHARS
        and value.isascii()
        and (value.isalnum() or (len(value) < MIN_SECRET_TEXT_CHARS and "\0" not in value))
    )
