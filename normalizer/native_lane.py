"""Says which sources of the rules the native lane must have been built from."""

import hashlib
from itertools import chain
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_BESIDE_CORE: Final = ("envelope.py", "jsontext.py", "snowflake.py")


def rules_sha256() -> str:
    """The hash of every source that decides what a record becomes, as it is on the disk.

    A lane that was built from other sources may answer differently, so it isn't used.
    """
    digest = hashlib.sha256()
    paths = chain((_HERE / "core").rglob("*.py"), (_HERE / name for name in _BESIDE_CORE))
    for path in sorted(paths):
        digest.update(b"%b\0%b\0" % (str(path.relative_to(_HERE)).encode(), path.read_bytes()))
    return digest.hexdigest()
