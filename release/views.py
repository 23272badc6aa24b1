"""The views of a release, which only gain columns within a series."""

import json
from pathlib import Path

from release.commands import ReleaseError, run

VIEWS_FILE = "docs/views.json"


def check_columns_kept(root: Path, version: str) -> None:
    """Raise ReleaseError if a view lost or moved a column since a release of the same series."""
    series = ".".join(version.split(".")[:2])
    now = _columns((root / VIEWS_FILE).read_text())
    for tag in run("git", "tag", "--list", f"v{series}.*", folder=root).decode().split():
        then = _columns(run("git", "show", f"{tag}:{VIEWS_FILE}", folder=root).decode())
        for view, columns in then.items():
            if now.get(view, [])[: len(columns)] != columns:
                raise ReleaseError(
                    f"{VIEWS_FILE}: view {view} must begin with its columns of {tag}: "
                    f"{', '.join(columns)}"
                )


def _columns(text: str) -> dict[str, list[str]]:
    return {view["name"]: [one["name"] for one in view["columns"]] for view in json.loads(text)}
