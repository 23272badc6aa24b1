"""Hashes the source files of the rules, so that a native lane built from other rules isn't used.

The native lane is a library in Rust that implements the same rules. Its build compiles this hash
into it. When a process starts, it computes the hash of its own rules, and uses the lane only if the
two are equal. This module imports only the standard library, because the build runs it before the
package is installed.
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
    """Return the hash of all source files that affect how a record is normalized.

    The files are read from disk. Docstrings and comments on lines of their own can't affect the
    result, so they're left out of the hash. Editing them therefore doesn't require a new build of
    the lane.
    """
    digest = hashlib.sha256()
    paths = chain((package / "core").rglob("*.py"), (package / name for name in _BESIDE_CORE))
    for path in sorted(paths):
        code = _PROSE.sub(_kept, path.read_bytes())
        digest.update(b"%b\0%b\0" % (str(path.relative_to(package)).encode(), code))
    return digest.hexdigest()


def _kept(found: re.Match[bytes]) -> bytes:
    return b"" if found["prose"] else found[0]
