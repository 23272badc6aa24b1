"""Copies of the commit that is released, as two strangers would have them."""

import io
import tarfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from release.commands import ReleaseError, run


class Commit(NamedTuple):
    """A commit, and its time in seconds since 1970: the time of all that is built from it."""

    revision: str
    epoch: int


def version(root: Path) -> str:
    """The version in pyproject.toml."""
    read: str = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return read


def commit(root: Path) -> Commit:
    """The commit that is checked out."""
    revision, epoch = run("git", "log", "-1", "--format=%H %ct", folder=root).decode().split()
    return Commit(revision, int(epoch))


def clean_commit(root: Path) -> Commit:
    """Do the same, and raise ReleaseError if a file differs from it."""
    changed = run("git", "status", "--porcelain", folder=root).decode().splitlines()
    if changed:
        raise ReleaseError(f"commit first: {', '.join(line[3:] for line in changed[:5])}")
    return commit(root)


def export(root: Path, released: Commit, tree: Path) -> Path:
    """Write only the files of the commit into a new folder. Returns the folder."""
    archive = run(
        *("git", "-c", "tar.umask=0022", "archive", "--format=tar", released.revision), folder=root
    )
    tree.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(tree, filter="tar")
    return tree
