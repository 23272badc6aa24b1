"""pyproject.toml, the lock files and the Makefile agree with each other."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME_LOCK = (ROOT / "requirements.lock").read_text()
DEV_LOCK = (ROOT / "requirements-dev.lock").read_text()
BUILD_LOCK = (ROOT / "requirements-build.lock").read_text()


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", line)[0].lower() for line in requirements}


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", lock, re.MULTILINE))


def test_every_dependency_is_locked() -> None:
    project = PROJECT["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]

    assert _names(project["dependencies"]) - _pins(RUNTIME_LOCK).keys() == set()
    unlocked = _names([*project["dependencies"], *extras]) - _pins(DEV_LOCK).keys()
    assert unlocked == {"event-normalizer-native"}  # native/ builds it
    assert _names(PROJECT["dependency-groups"]["build"]) - _pins(BUILD_LOCK).keys() == set()


def test_all_locks_hold_the_same_versions() -> None:
    runtime, dev, build = _pins(RUNTIME_LOCK), _pins(DEV_LOCK), _pins(BUILD_LOCK)

    assert {name: dev.get(name) for name in runtime} == runtime
    assert {name: dev.get(name, version) for name, version in build.items()} == build


def test_every_locked_file_has_a_hash_and_no_address() -> None:
    for lock in (RUNTIME_LOCK, DEV_LOCK, BUILD_LOCK):
        pins = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]

        assert [pin for pin in pins if "--hash=sha256:" not in pin] == []
        assert "://" not in lock


def test_extra_is_installed_from_the_checkout_until_an_index_has_the_package() -> None:
    """docs/releasing.md says when that changes."""
    listed = subprocess.run(
        ["git", "grep", "--line-number", "--extended-regexp", r"pip install '?event-normalizer"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    wrong = [
        line
        for line in listed.stdout.splitlines()
        if not line.startswith(("CHANGELOG.md:", "tests/rules/test_project.py:"))
    ]

    assert wrong == []


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text()
    project = PROJECT["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    extras += PROJECT["dependency-groups"]["build"]

    unsaid = sorted(
        name for name in _names([*project["dependencies"], *extras]) if f"`{name}`" not in reasons
    )

    assert unsaid == []


def test_no_ignored_file_is_tracked() -> None:
    """A link to an environment of one machine, for example, breaks every other checkout."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)

    assert listed.stdout.splitlines() == []


def test_a_half_made_venv_is_made_again(tmp_path: Path) -> None:
    """As Ctrl-C leaves it, or Debian's Python without python3-venv: a python without pip."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *venv*) echo "typed: $*"; exit 1;; esac\n')
    python.chmod(0o755)

    made = subprocess.run(
        ["make", f"PYTHON={python}", ".venv/installed"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "typed: -m venv --clear .venv" in made.stdout


def test_coverage_is_requested_of_the_whole_core() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (core,) = (one for one in contracts if one["name"].startswith("The core does no I/O"))
    coverage = PROJECT["tool"]["coverage"]
    patterns = [pattern.removeprefix("*/") for pattern in coverage["run"]["omit"]]
    omitted = {path for pattern in patterns for path in ROOT.glob(f"{pattern}*")}
    places = [ROOT / name.replace(".", "/") for name in core["source_modules"]]

    watched = {
        path
        for path in (ROOT / "normalizer").rglob("*.py")
        if omitted.isdisjoint((path, *path.parents))
    }

    assert coverage["run"]["source"] == ["normalizer"]
    # Else a child process that runs in another folder would watch everything.
    assert all(pattern.startswith("*/normalizer/") for pattern in coverage["run"]["omit"])
    assert coverage["report"]["fail_under"] == 100
    assert watched == {
        path
        for place in places
        for path in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    }


def test_a_second_script_has_a_name_that_no_other_package_installs() -> None:
    """charset-normalizer installs a script named normalizer too: the last one installed wins."""
    ours = PROJECT["project"]["scripts"]
    installed = importlib.metadata.entry_points(group="console_scripts")
    others = {one.name for one in installed if one.dist and one.dist.name != "event-normalizer"}

    assert "$(BIN)/normalizer" not in (ROOT / "Makefile").read_text()
    assert ours["event-normalizer"] == ours["normalizer"]
    assert others.isdisjoint({"event-normalizer", "projector"})


@pytest.mark.parametrize("package", ["normalizer", "projector", "simulator"])
def test_no_pattern_meets_the_flaw_of_python_3_11_2(package: str) -> None:
    """It ends `(?:a|b(?=c))*+` and `(?:a(?:b)?)*+` too early. `(?>(?:...)*)` means the same."""
    texts = [path.read_text() for path in sorted((ROOT / package).rglob("*.py"))]

    found = {group for text in texts for group in _unsafe_groups(text)}
    assert found <= {"(?:(?!(?P=open)).|(?P=open)(?P=open))*+"}  # 3.11.2 was seen to read it right
    assert _unsafe_groups(r"[(](?:a|b(?=c))*+ (?:a(?:b)?)*+") == ["(?:a|b(?=c))*+", "(?:a(?:b)?)*+"]


def _unsafe_groups(text: str) -> list[str]:
    """Return the groups that are repeated possessively and have an assertion or an optional group.

    Parentheses of the code around a pattern are read like those of a pattern.
    """
    found, opened = [], []
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\\n])*\]|[()]", text):
        if token[0] == "(":
            opened.append(token.start())
        elif token[0] == ")" and opened:
            begin = opened.pop()
            end = re.compile(r"(?:[*+?]|\{[\d,]+\})\+").match(text, token.end())
            if end and re.search(r"\(\?<?[=!]|\)\?", text[begin : token.start()]):
                found.append(text[begin : end.end()])
    return found
