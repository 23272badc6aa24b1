"""Builds the release of this commit into dist/, or only its image.

    python -m release [ARGUMENTS OF BUILDAH]          everything, each thing twice
    python -m release image [ARGUMENTS OF BUILDAH]    only the image, once, from the work tree

If a release can't be made, it exits with 1 and prints the reason in one line.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from release import checks, image, notes, packages, sources, views
from release.commands import ReleaseError

ROOT: Final = Path(__file__).parents[1]
DIST: Final = ROOT / "dist"


def main(arguments: list[str]) -> None:
    """Run what the arguments say. Raises ReleaseError."""
    version = sources.version(ROOT)
    if arguments[:1] == ["image"]:
        image.build(ROOT, f"event-normalizer:{version}", sources.commit(ROOT), arguments[1:])
        return
    notes.check_heading((ROOT / "CHANGELOG.md").read_text(), version)
    views.check_columns_kept(ROOT, version)
    commit = sources.clean_commit(ROOT)
    with tempfile.TemporaryDirectory(prefix="release-") as made:
        folder = Path(made)
        tools = packages.install_tools(ROOT, folder / "tools")
        finished = _built_twice(folder, tools, version, commit, arguments)
        checks.install_and_run(ROOT, finished, tools, version)
        _write(finished)
    print(f"release {version} of {commit.revision} is in {DIST}")


def _built_twice(
    folder: Path, tools: Path, version: str, commit: sources.Commit, arguments: list[str]
) -> Path:
    """Build two copies of the commit. Returns the folder of the second, with the same bytes."""
    finished = [folder / name / "finished" for name in ("first", "second")]
    for into in finished:
        tree = sources.export(ROOT, commit, into.parent / "tree")
        into.mkdir()
        print(f"building wheels, sdist, crate, chart and site of {commit.revision}")
        packages.build(tree, into, tools, commit)
        name = f"event-normalizer:{version}"
        print(f"building the image {name}")
        image.build(tree, name, commit, arguments)
        image.save(name, into / f"event-normalizer-{version}-image.tar", commit)
    checks.compare(*finished)
    return finished[1]


def _write(finished: Path) -> None:
    """Replace dist/ by what was built, with the SHA-256 of each file."""
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(finished.iterdir())
    ]
    shutil.rmtree(DIST, ignore_errors=True)
    shutil.copytree(finished, DIST)
    (DIST / "SHA256SUMS").write_text("".join(sums))


os.umask(0o022)
try:
    main(sys.argv[1:])
except ReleaseError as error:
    sys.exit(str(error))
