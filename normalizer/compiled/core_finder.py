"""Imports compiled modules of the core in place of their sources, where they were made of these.

The sources are the reference. A compiled module is used only if its source is byte for byte the
one that it was compiled from; one module that differs leaves all of them unused.
"""

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final, Literal, NamedTuple

VARIABLE: Final = "NORMALIZER_CORE"
PYTHON: Final = "python"
"""The value of the variable that leaves compiled modules unused."""
MANIFEST: Final = "manifest.json"
PACKAGE: Final = Path(__file__).parents[1]
ABI: Final = str(sysconfig.get_config_var("SOABI"))
"""Which interpreter a compiled module is for."""

MODULES: Final = (
    *sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.glob("core/**/*.py")
        if path.stem != "__init__"
    ),
    *("envelope", "jsontext", "snowflake"),
)
"""What is compiled: the core, and what it imports and calls for each event."""


class RunningCore(NamedTuple):
    """Which core this process runs, and why not the compiled one.

    `unfit`: there is a compiled one, and it cannot be used.
    """

    kind: Literal["compiled", "python"]
    why: str = ""
    unfit: bool = False

    def __str__(self) -> str:
        return "compiled" if self.kind == "compiled" else f"Python ({self.why})"


def compiled_folder() -> Path:
    """Where this Python's compiled core is: beside its libraries, never beside the sources."""
    return Path(sysconfig.get_path("platlib")) / "normalizer-core"


def source_of(module: str) -> Path:
    """The source of a module of MODULES."""
    return PACKAGE / f"{module.replace('.', '/')}.py"


def digests() -> dict[str, str]:
    """The SHA-256 of each source that can be compiled."""
    return {name: hashlib.sha256(source_of(name).read_bytes()).hexdigest() for name in MODULES}


def unfit_because(folder: Path) -> str:
    """Why the compiled core of a folder cannot be used here; '' if it can."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "not compiled"
    except (OSError, ValueError):
        return "its manifest cannot be read"
    if manifest.get("abi") != ABI:
        return f"compiled for {manifest.get('abi')}, this is {ABI}"
    built, present = manifest.get("sources"), digests()
    if built != present:
        changed = [name for name in MODULES if (built or {}).get(name) != present[name]]
        return f"compiled from other sources: {', '.join(changed[:3])}"
    return ""


def install() -> RunningCore:
    """Import compiled modules from now on, if they fit; call it before a module of the core."""
    global _running  # noqa: PLW0603 - what a process imports is its own
    folder = compiled_folder()
    if os.environ.get(VARIABLE) == PYTHON:
        _running = RunningCore("python", f"{VARIABLE}={PYTHON}")
    elif why := unfit_because(folder):
        _running = RunningCore("python", why, unfit=folder.exists())
    else:
        files = {f"normalizer.{name}": folder / file_name(name) for name in MODULES}
        sys.meta_path.insert(0, CompiledFinder(files))
        _running = RunningCore("compiled")
    return _running


def running_core() -> RunningCore:
    """Which core this process runs."""
    return _running


def file_name(module: str) -> str:
    """The file of a compiled module in the folder."""
    return f"{module}.{ABI}.so"


class CompiledFinder:
    """Finds the modules of these files, and no other."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None = None,
        _target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Give the spec of a compiled module; None for every other."""
        file = self._files.get(fullname)
        if file is None:
            return None
        loader = ExtensionFileLoader(fullname, str(file))
        return spec_from_file_location(fullname, file, loader=loader)


_running = RunningCore("python", "not installed")
