"""Finds out with fast checks that keys, or a value, need no search for secrets.

The keys of events recur, so it caches the answer for all keys of an object together.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from normalizer.core.redaction.secret_members import NEVER_SECRET, SecretMembers
from normalizer.core.redaction.secret_names import Secrecy
from normalizer.core.redaction.secret_text import SHORTEST_SECRET, SecretText
from normalizer.core.redaction.secret_values import SHORTEST_TOKEN
from normalizer.core.redaction.unstorable import replace_unstorable
from normalizer.jsontext import Json

_REMEMBERED_CHARS: Final = 500


class PlainKeys:
    """Judges the keys of an object, given as one text with one key per line."""

    def __init__(self, texts: SecretText, members: SecretMembers) -> None:
        self._texts = texts
        self._members = members
        self._plain: Final = lru_cache(maxsize=1024)(self._are_plain)
        self._harmless: Final = lru_cache(maxsize=2048)(self._are_harmless)

    def are_plain(self, keys: str) -> bool:
        """Return whether the keys hold no secret and no unstorable text."""
        return (self._plain if len(keys) <= _REMEMBERED_CHARS else self._are_plain)(keys)

    def are_harmless(self, keys: str, *, at_top: bool) -> bool:
        """Return whether the keys are plain, and make no value under or beside them secret."""
        return len(keys) <= _REMEMBERED_CHARS and self._harmless(keys, at_top)

    def _are_plain(self, keys: str) -> bool:
        return replace_unstorable(keys) == keys and not self._texts.may_hold_secret(keys)

    def _are_harmless(self, keys: str, at_top: bool) -> bool:  # noqa: FBT001 - for lru_cache
        names = keys.split("\n")
        secrecies = self._secrecies(names, at_top=at_top)
        return (
            self._are_plain(keys)
            and not self._members.may_name(names, at_top=at_top)
            and all(secrecy is Secrecy.NOTHING for secrecy in secrecies)
        )

    def _secrecies(self, names: Iterable[str], *, at_top: bool) -> Iterable[Secrecy]:
        return (
            self._texts.secrecy(name) for name in names if not (at_top and name in NEVER_SECRET)
        )


def is_harmless(value: Json) -> bool:
    """Find out with a fast check that a value holds no secret and no unstorable text."""
    if type(value) is not str:
        return not value or not isinstance(value, (list, dict))
    return (
        len(value) < SHORTEST_TOKEN
        and value.isascii()
        and (value.isalnum() or (len(value) < SHORTEST_SECRET and "\0" not in value))
    )
