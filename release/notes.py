"""The heading of a version in CHANGELOG.md."""

import re

from release.commands import ReleaseError


def check_heading(changelog: str, version: str) -> None:
    """Raise ReleaseError unless the newest heading is this version's, with its date."""
    newest = re.search(r"^## (.*)$", changelog, re.MULTILINE)
    wanted = rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d"
    if newest is None or not re.fullmatch(wanted, newest[1]):
        found = newest[1] if newest else "none"
        raise ReleaseError(
            f"CHANGELOG.md: the newest heading must be `## {version} - YYYY-MM-DD`, is `{found}`"
        )
