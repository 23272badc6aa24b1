"""Hashes the sources of the rules, so that a native lane built from other rules isn't used.

The hash of the rules that a lane was built from is compiled into it. This file imports only the
standard library, because the lane's build runs it before this package is installed.
"""

import hashlib
import re
from itertools import chain
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parents[1]
_BESIDE_CORE: Final = ("envelope.py", "jsontext.py", "snowflake.py")

_TEXT: Final = rb'"""(?>(?:[^"\\]++|\\.|"(?!""))*)"""'
_PROSE: Final = re.compile(
    rb"^[ \t]*(?P<prose>#[^\n]*|%b)\n|[bfrBFR]*%b" % (_TEXT, _TEXT), re.DOTALL | re.MULTILINE
)
"""Matches a docstring, a comment on its own lines, or any other long text. The group `prose` isn't
set for the last."""


def rules_sha256(package: Path = _HERE) -> str:
    """Return the hash of all source files that decide what a record becomes.

    The files are read from disk. A lane built from other sources may return other events, so it
    isn't used. Docstrings and comments on their own lines don't change the hash.
    """
    digest = hashlib.sha256()
    paths = chain((package / "core").rglob("*.py"), (package / name for name in _BESIDE_CORE))
    for path in sorted(paths):
        code = _PROSE.sub(_kept, path.read_bytes())
        digest.update(b"%b\0%b\0" % (str(path.relative_to(package)).encode(), code))
    return digest.hexdigest()


def _kept(found: re.Match[bytes]) -> bytes:
    return b"" if found["prose"] else found[0]
