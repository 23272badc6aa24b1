"""The workflows of .github run steps that .ci/run has, with every supported Python."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
CHECKED_FOR: Final = ("python3", "curl", "javac", "go", "node", "mvn", "cc", "cargo", "promtool")
RUN: Final = (ROOT / ".ci" / "run").read_text()
JOBS: Final[dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())[
    "jobs"
]


def test_a_job_runs_steps_of_the_local_script() -> None:
    known = set(re.findall(r"[\w-]+", RUN.partition("no step $step: ")[2].partition('"')[0]))
    named = {
        step
        for job in JOBS.values()
        for one in job["steps"]
        if str(one.get("run", "")).startswith(".ci/run")
        for step in one["run"].split()[1:]
    }

    assert named == {"lint", "docs", "test-all", "rust"}
    assert named <= known


def test_every_supported_python_has_a_job() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    pythons = JOBS["pythons"]["strategy"]["matrix"]["python"]

    assert pythons[0] == oldest
    assert {name.rpartition(" ")[2] for name in project["classifiers"] if ":: 3." in name} <= {
        *pythons
    }


def test_every_file_of_github_is_yaml() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text()), path.name


def test_a_command_that_fails_fails_the_run(tmp_path: Path) -> None:
    """Even in the middle of a step, with steps after it. Nothing is installed or built here."""
    for name in ("make", "apt-get", "sudo", "systemctl", "mkdir", "tee", *CHECKED_FOR):
        stub = tmp_path / name
        stub.write_text("#!/bin/sh\nexit 0\n")
        stub.chmod(0o755)
    # Only building the lane fails.
    (tmp_path / "make").write_text('#!/bin/sh\n[ "$1" != native ]\n')
    path = f"{tmp_path}:/usr/bin:/bin"

    for step in ("test-all", "rust"):
        run = subprocess.run([ROOT / ".ci/run", step, "lint"], env={"PATH": path}, check=False)

        assert run.returncode != 0
