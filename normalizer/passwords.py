"""Finds and masks the passwords in URLs."""

import re
from typing import Final
from urllib.parse import unquote

MASK: Final = "***"


def masked_url(text: str) -> str:
    """The text with the password of every URL in it masked."""
    masked = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", masked)


def passwords_in(url: str) -> list[str]:
    """Every password in a URL, as it is written there and decoded."""
    written = _PASSWORD_OF_URL.findall(url)
    return [*written, *map(unquote, written)]


_URL_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)\S*@", re.IGNORECASE)
_PASSWORD_OF_URL: Final = re.compile(r"(?<=:)(?<!:/)[^\s:/]\S*(?=@)|(?<=password=)[^&\s]+")
_QUERY_PASSWORD: Final = re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)
