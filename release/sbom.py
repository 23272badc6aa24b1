"""Adds to a CycloneDX list of components what pip did not install: Debian's packages, and uPlot.

    python release/sbom.py PACKAGES < pip.cdx.json > all.cdx.json

It runs while the image is built, and uses only the standard library. PACKAGES is a file with a line
per Debian package: name, version, and architecture.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any


def main(packages: Path) -> None:
    """Copy the list from standard input to standard output, with more components."""
    bom = json.load(sys.stdin)
    bom["components"] += [_uplot(), *map(_list_debian, packages.read_text().splitlines())]
    json.dump(bom, sys.stdout, indent=1, sort_keys=True)


def _uplot() -> dict[str, Any]:
    """The page's charting library, which setup.py pins and the wheel carries."""
    pinned = re.search(r'^VERSION = "(.*)"$', Path("setup.py").read_text(), re.MULTILINE)
    assert pinned is not None
    component = _component(f"pkg:npm/uplot@{pinned[1]}", "uplot", pinned[1])
    return {**component, "licenses": [{"license": {"id": "MIT"}}]}


def _list_debian(line: str) -> dict[str, Any]:
    """A package of the base. Its license is in /usr/share/doc of the image."""
    name, version, architecture = line.split()
    return _component(f"pkg:deb/debian/{name}@{version}?arch={architecture}", name, version)


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version}


main(Path(sys.argv[1]))
