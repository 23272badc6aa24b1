"""Runs promtool, the checker of Prometheus' rules, where it's installed."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.stack import skip_or_fail


def run_promtool(folder: Path, *arguments: str | Path, **files: dict[str, Any]) -> None:
    """Write each file as `NAME.yml` and run promtool in the folder. It must accept them all."""
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("no promtool: type `apt-get install prometheus`")
    for name, content in files.items():
        (folder / f"{name}.yml").write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
