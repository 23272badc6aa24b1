"""Notices a native lane that is built while the stack runs, so that the normalizer can use it.

The build takes a while and the stack works without the lane, so `make run` builds it in the
background. Once it's built, the normalizer is restarted to use it.
"""

import asyncio
import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from normalizer.runtime.child import module_search_environment
from normalizer.runtime.native_lane import NATIVE_MODULE_NAME

_LOOK_S: Final = 1.0
_WHY_NOT: Final = (
    "from normalizer.runtime.native_lane import why_not_installed; print(why_not_installed())"
)


class NativeBuildWatch:
    """Compares the installed lane with the one that was installed when this object was created."""

    def __init__(self, *, look_s: float = _LOOK_S) -> None:
        self._look_s = look_s
        self._seen = _stamp()

    async def wait_for_new_lane(self) -> None:
        """Return when another lane is installed that a new process can use."""
        while True:
            await asyncio.sleep(self._look_s)
            if (stamp := _stamp()) != self._seen:
                self._seen = stamp
                if await _is_usable():
                    return


def _stamp() -> tuple[str, int, int] | None:
    """Return a value that changes with each installation. The lane itself isn't loaded."""
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(NATIVE_MODULE_NAME)
    if spec is None or spec.origin is None:
        return None
    try:
        stat = Path(spec.origin).stat()
    except FileNotFoundError:  # it's just being replaced
        return None
    return spec.origin, stat.st_mtime_ns, stat.st_ino


async def _is_usable() -> bool:
    """Check in a new process, because this one couldn't load the lane a second time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WHY_NOT),
        env=module_search_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said, _ = await process.communicate()
    return process.returncode == 0 and not said.strip()
