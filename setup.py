"""Adds the page's charting library to what is installed or built; all else is in pyproject.toml.

uPlot comes from Maven as a WebJar, pinned by its hash, and is kept in the cache beside Kafka.
Without Maven the build goes on: the page then shows its figures without charts, and says so.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

VERSION = "1.6.30"
SHA256 = "35b1d5d332ae25876ebd3b96c4a6180f29bec7675ad22dda9d3dc803691d19c9"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
FOLDER = Path(__file__).parent / "projector" / "api" / "page" / "charts"
FILES = {
    "uplot.js": "dist/uPlot.iife.min.js",
    "uplot.css": "dist/uPlot.min.css",
    "LICENSE.uplot.txt": "LICENSE",
}
"""The file of the page, and where it is in the WebJar."""


class BuildWithCharts(build_py):
    """Unpacks the library into the package before its files are listed."""

    def run(self) -> None:
        """Build, with charts if Maven is here."""
        if not all((FOLDER / name).exists() for name in FILES):
            try:
                unpack(web_jar())
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                self.announce(f"The page will have no charts: {error}", level=logging.INFO)
        super().run()


def web_jar() -> Path:
    """Return the WebJar from the cache, or downloaded now.

    Raises OSError without Maven, SubprocessError if Maven fails, ValueError for another hash.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kept = Path(base) / "event-normalizer" / f"uplot-{VERSION}.jar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            download(folder)
            (Path(folder) / kept.name).replace(kept)
    if hashlib.sha256(kept.read_bytes()).hexdigest() != SHA256:
        kept.unlink()
        raise ValueError(f"uPlot {VERSION} has another hash than the pinned one")
    return kept


def download(folder: str) -> None:
    """Let Maven write the WebJar into this folder."""
    maven = shutil.which("mvn")
    if maven is None:
        raise FileNotFoundError("Maven downloads them; type `apt-get install maven`")
    subprocess.run(  # noqa: S603 - the arguments are constants
        [
            *(maven, "--batch-mode", "--quiet", "--strict-checksums", PLUGIN),
            f"-Dartifact=org.webjars.npm:uplot:{VERSION}",
            f"-DoutputDirectory={folder}",
        ],
        check=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )


def unpack(jar: Path) -> None:
    """Write the files of the page."""
    inside = f"META-INF/resources/webjars/uplot/{VERSION}"
    with zipfile.ZipFile(jar) as opened:
        for name, member in FILES.items():
            (FOLDER / name).write_bytes(opened.read(f"{inside}/{member}"))


setup(cmdclass={"build_py": BuildWithCharts})
