"""Tries out what was built, in an environment of its own, and lists what is in that."""

import sys
from pathlib import Path

from release.commands import ReleaseError, run


def compare(first: Path, second: Path) -> None:
    """Raise ReleaseError unless both folders hold files of the same names and bytes."""
    held, others = (
        {path.name: path.read_bytes() for path in one.iterdir()} for one in (first, second)
    )
    different = sorted(
        name for name in held.keys() | others.keys() if held.get(name) != others.get(name)
    )
    if different:
        raise ReleaseError(
            f"these must be the same in both builds, but differ: {', '.join(different)}"
        )


def install_and_run(root: Path, finished: Path, tools: Path, version: str) -> None:
    """Install the wheel with the locked libraries, run it, and add its list of components.

    `normalizer conform` compares its output with every vector of the contract. Raises ReleaseError
    if anything fails.
    """
    environment = finished.parent / "installed"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=root)
    python = environment / "bin" / "python"
    pip = (tools / "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
    wheels = sorted(finished.glob("*.whl"))
    run(*pip, "--require-hashes", "--requirement", "requirements.lock", folder=root)
    run(*pip, "--no-deps", *wheels, folder=root)

    elsewhere = finished.parent
    for program in ("normalizer", "projector"):
        said = run(environment / "bin" / program, "--version", folder=elsewhere).decode()
        if version not in said:
            raise ReleaseError(f"{program} --version must say {version}, but says {said.strip()}")
    normalizer = environment / "bin" / "normalizer"
    said = run(normalizer, "--version", folder=elsewhere).decode()
    if "core: native" not in said:
        raise ReleaseError(f"the native lane isn't used: {said.strip()}")
    run(
        *(normalizer, "conform", "--level", "rules", "--", normalizer, "normalize"),
        folder=elsewhere,
    )
    _list_components(root, finished / f"event-normalizer-{version}.cdx.json", tools, python)


def _list_components(root: Path, target: Path, tools: Path, python: Path) -> None:
    """Write the list of what is installed beside this Python, and of what the wheel carries."""
    listed = run(
        *(tools / "cyclonedx-py", "environment", "--output-reproducible", "--gather-license-texts"),
        *("--pyproject", "pyproject.toml", "--mc-type", "application", python),
        folder=root,
    )
    target.write_bytes(
        run(sys.executable, "release/sbom.py", "/dev/null", folder=root, given=listed)
    )
