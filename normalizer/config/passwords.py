"""Finds and masks the passwords in URLs."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

URL_MASK: Final = "***"
DATABASE_URL_HINT: Final = (
    "expected postgresql://user:password@host:port/name, with : / ? # @ of a password "
    "percent-encoded"
)


def is_database_url(text: str) -> bool:
    """Return whether this is an address of a database whose hosts and ports can be parsed.

    Call this before you pass an address to asyncpg. If a password contains an unescaped # or /, a
    parser mistakes part of the password for a port, and asyncpg's error message would show that
    part.
    """
    try:
        for host in urlsplit(text).netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return _DATABASE_URL_START.match(text) is not None


def mask_url_passwords(text: str) -> str:
    """Return the text with the password of every URL masked."""
    masked = _URL_PASSWORD.sub(rf"\1{URL_MASK}@", text)
    return _QUERY_PASSWORD.sub(rf"\1{URL_MASK}", masked)


def find_url_passwords(url: str) -> list[str]:
    """Return every password in a URL, both as written and decoded."""
    written = _PASSWORD_OF_URL.findall(url)
    return [*written, *map(unquote, written)]


_DATABASE_URL_START: Final = re.compile(r"postgres(ql)?://[^\s?]", re.IGNORECASE)
_URL_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)\S*@", re.IGNORECASE)
_PASSWORD_OF_URL: Final = re.compile(r"(?<=:)(?<!:/)[^\s:/]\S*(?=@)|(?<=password=)[^&\s]+")
_QUERY_PASSWORD: Final = re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)
