"""Says why the crates can't be built here."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping


def why_no_cargo(oldest_minor: int, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return why no cargo of this version can build here, or None if one can. In CI it's None.

    A cargo that rustup installed finds its compilers by HOME, so it fails if another user installed
    it.
    """
    if "CI" in environ:
        return None
    path = shutil.which("cargo", path=environ.get("PATH"))
    if path is None:
        return "no cargo: apt-get install cargo-web rust-web-clippy"
    said = subprocess.run(
        [path, "--version"], env=environ, capture_output=True, text=True, check=False
    )
    if said.returncode != 0:
        return f"{path} does not run: {' '.join(said.stderr.split())}"
    version = re.search(r" \d+\.(\d+)\.", said.stdout)
    if version is None or int(version[1]) < oldest_minor:
        return f"{path} is too old: {said.stdout.strip()}; 1.{oldest_minor} or newer is needed"
    return None
