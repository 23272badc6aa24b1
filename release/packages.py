"""Builds wheels, sdist, crate, chart, and site of a copy of the sources."""

import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

from release.archives import pack
from release.commands import ReleaseError, run
from release.sources import Commit, version

_CHART: Final = Path("deploy") / "helm" / "event-normalizer"


def install_tools(root: Path, environment: Path) -> Path:
    """Make an environment from requirements-build.lock. Returns its programs' folder."""
    run(sys.executable, "-m", "venv", environment, folder=root)
    tools = environment / "bin"
    run(
        *(tools / "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "--requirement", "requirements-build.lock"),
        folder=root,
    )
    return tools


def build(tree: Path, into: Path, tools: Path, commit: Commit) -> None:
    """Build everything but the image. Raises ReleaseError."""
    _wheel(tree, into, tools, commit)
    _native_wheel(tree, into, tools, commit)
    _sdist(tree, into, tools, commit)
    _crate(tree, into)
    if (tree / _CHART).is_dir():
        chart = into / f"event-normalizer-{version(tree)}.tgz"
        pack(tree / _CHART, chart, commit.epoch, under="event-normalizer")
    _site(tree, into, commit)


def _wheel(tree: Path, into: Path, tools: Path, commit: Commit) -> None:
    wheel = into / _hook("build_wheel", tree, into, tools, commit)
    with zipfile.ZipFile(wheel) as opened:
        if "projector/api/page/charts/uplot.js" not in opened.namelist():
            raise ReleaseError(
                f"{wheel.name} lacks the charting library: type `apt-get install maven`"
            )


def _native_wheel(tree: Path, into: Path, tools: Path, commit: Commit) -> None:
    """Build the wheel of the native lane, for this machine's Linux and for Python 3.11 and newer.

    The compiled module contains the paths of its crates' sources. They're rewritten, so that the
    builder's home folder isn't among them.
    """
    crates = os.environ.get("CARGO_HOME", Path.home() / ".cargo")
    _hook(
        *("build_wheel", tree / "native", into, tools, commit),
        rustflags=f"--remap-path-prefix={crates}=cargo",
    )


def _sdist(tree: Path, into: Path, tools: Path, commit: Commit) -> None:
    """Build the sdist, and pack it again, because setuptools writes the current time into it.

    Raises ReleaseError if a wheel that is built from it differs from the wheel built from the tree.
    """
    sdist = into / _hook("build_sdist", tree, into, tools, commit)
    unpacked = tree.parent / "unpacked"
    with tarfile.open(sdist) as opened:
        opened.extractall(unpacked, filter="data")
    (inside,) = unpacked.iterdir()
    pack(inside, sdist, commit.epoch, under=inside.name)
    again = unpacked / _hook("build_wheel", inside, unpacked, tools, commit)
    if again.read_bytes() != (into / again.name).read_bytes():
        raise ReleaseError(f"a wheel built from {sdist.name} differs from that of the tree")


def _hook(
    name: str, tree: Path, into: Path, tools: Path, commit: Commit, rustflags: str = ""
) -> str:
    """Call a hook of the build backend. Returns the name of the file that it made."""
    program = f"from setuptools import build_meta as b; print('\\n' + b.{name}({str(into)!r}))"
    said = run(
        *(tools / "python", "-c", program),
        folder=tree,
        SOURCE_DATE_EPOCH=str(commit.epoch),
        RUSTFLAGS=rustflags,
    )
    return said.decode().splitlines()[-1]


def _crate(tree: Path, into: Path) -> None:
    """Cargo builds the crate from its own archive."""
    target = tree.parent / "cargo"
    run(
        *("cargo", "package", "--locked", "--quiet", "--target-dir", target),
        folder=tree / "contract" / "rust",
    )
    (crate,) = (target / "package").glob("*.crate")
    (into / crate.name).write_bytes(crate.read_bytes())


def _site(tree: Path, into: Path, commit: Commit) -> None:
    """Last, because it leaves an environment in the tree."""
    run("make", "docs", folder=tree, SOURCE_DATE_EPOCH=str(commit.epoch))
    name = f"event-normalizer-{version(tree)}-site"
    pack(tree / "build" / "site", into / f"{name}.tar.gz", commit.epoch, under=name)
