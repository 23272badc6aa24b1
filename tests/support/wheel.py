"""Builds the wheel as the image does: from the files that the Dockerfile's first stage copies.

It needs no package index. The charting library comes from Maven or its cache.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.doc_pages import copy_tree

ROOT: Final = Path(__file__).parents[2]


def copied_into_the_build() -> list[str]:
    """The source files that the first stage copies."""
    first_stage = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1]
    lines = re.findall(r"^COPY (?!--from)(.*)$", first_stage, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def build_wheel(folder: Path, **variables: str) -> tuple[Path, str]:
    """Build the wheel with these variables changed. Returns it with the build's output."""
    source = folder / "source"
    copy_tree(source, *copied_into_the_build())
    # Without this, setuptools warns that it compiles no bytecode.
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--verbose", "--disable-pip-version-check"),
            *("--no-deps", "--no-index", "--no-build-isolation"),
            *("--wheel-dir", str(folder), str(source)),
        ],
        env=env | variables,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel, built.stdout
