"""Compiles the modules of the core from their sources, with Cython and the machine's C compiler."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from normalizer.compiled.core_finder import (
    ABI,
    MANIFEST,
    MODULES,
    VARIABLE,
    compiled_folder,
    digests,
    file_name,
    source_of,
)

# `annotation_typing`: annotations are for readers and mypy. Taken as C types they would change what
# a rule does with a value of a subclass, such as Number.
_DIRECTIVES: Final = ("annotation_typing=False",)
_FLAGS: Final = "-O1 -g0"
"""A newcomer waits for it. -O2 takes two thirds more time and gains 1 %: the image adds it."""
_TRIAL: Final = """
from normalizer import Normalizer, RawRecord
from normalizer.compiled.core_finder import running_core

Normalizer().normalize(RawRecord(b"{}"))
if running_core().kind != "compiled":
    raise SystemExit(running_core().why)
"""


class CannotCompile(Exception):  # noqa: N818 - it says what it is
    """There is no compiled core; the message says why, in one line."""


def build(folder: Path) -> None:
    """Compile the core into the folder. Raises CannotCompile.

    It replaces the folder in one step: nobody imports half of it.
    """
    _check_tools()
    try:
        _build(folder)
        if folder == compiled_folder():
            _try_out(folder)
    except OSError as error:
        raise CannotCompile(f"{folder.parent}: {error.strerror}") from error


def _build(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
        tree, finished = Path(made) / "tree", Path(made) / folder.name
        sources = digests()
        _compile(tree)
        finished.mkdir()
        for module in MODULES:
            (found,) = tree.glob(f"normalizer/{module.replace('.', '/')}.*.so")
            found.rename(finished / file_name(module))
        (finished / MANIFEST).write_text(json.dumps({"abi": ABI, "sources": sources}, indent=1))
        if folder.exists():
            folder.rename(Path(made) / "replaced")
        finished.rename(folder)


def _check_tools() -> None:
    """Raise CannotCompile where a tool is missing."""
    compiler = str(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which(compiler) is None:
        raise CannotCompile(f"no C compiler ({compiler})")
    if not header.is_file():
        raise CannotCompile(f"no headers of Python ({header})")
    for name in ("Cython", "setuptools"):
        if importlib.util.find_spec(name) is None:
            raise CannotCompile(f"{name} is not installed")


def _compile(tree: Path) -> None:
    """Compile copies of the sources in a tree of their own: nothing is written beside them.

    CFLAGS of the environment are added to ours.
    """
    paths = []
    for module in MODULES:
        source = source_of(module)
        copy = tree / "normalizer" / f"{module.replace('.', '/')}.py"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        paths.append(str(copy.relative_to(tree)))
    for package in {Path(path).parent for path in paths}:
        (tree / package / "__init__.py").touch()
    # Without the name of this folder in it, the same sources give the same bytes.
    nameless = shlex.quote(f"-ffile-prefix-map={tree}=.")
    done = subprocess.run(  # noqa: S603 - our own command
        [
            *(sys.executable, "-m", "Cython.Build.Cythonize", "--build", "--inplace"),
            *("--quiet", "-3", f"--parallel={os.cpu_count() or 1}"),
            *(word for directive in _DIRECTIVES for word in ("-X", directive)),
            *paths,
        ],
        cwd=tree,
        env=os.environ | {"CFLAGS": f"{_FLAGS} {nameless} {os.environ.get('CFLAGS', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CannotCompile(_last_line(done.stdout))


def _try_out(folder: Path) -> None:
    """Run the compiled core once in a process of its own; remove one that does not run."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", _TRIAL],
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(folder)
        raise CannotCompile(f"it does not run: {_last_line(done.stdout)}")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "the compiler said nothing"
