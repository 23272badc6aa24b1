"""Runs tests in a copy of the tree with one mutant in it, and says which failed and of what."""

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.promises.mutants import Mutant, SourceChange

ROOT: Final = Path(__file__).parents[2]
_LONGEST_S: Final = 600


class TestRun(msgspec.Struct, frozen=True, kw_only=True):
    """The reports of failures of each test function that ran, or none if it passed."""

    failures: Mapping[str, Sequence[str]]
    output: str
    took_s: float

    __test__ = False


def copy_tree(to: Path) -> None:
    """The files that git tracks, as they are on the disk."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name, follow_symlinks=False)


def apply(tree: Path, changes: Sequence[SourceChange]) -> dict[Path, str]:
    """Change the files. Returns what they were. Raises ValueError where a text is not there just
    once.
    """
    before: dict[Path, str] = {}
    for change in changes:
        path = tree / change.path
        text = path.read_text()
        if (times := text.count(change.old)) != 1:
            raise ValueError(f"{change.path}: found {times} times: {change.old!r}")
        before.setdefault(path, text)
        path.write_text(text.replace(change.old, change.new))
    return before


def restore(before: Mapping[Path, str]) -> None:
    for path, text in before.items():
        path.write_text(text)


def files_with(tests: Collection[str]) -> dict[str, Path]:
    """The file of each test function, in the tree."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        found |= {name: path.relative_to(ROOT) for name in tests if f"def {name}(" in text}
    return found


def run_tests(tree: Path, tests: Collection[str], database_url: str) -> TestRun:
    """In a process of its own, in databases of its own on the server of this superuser's URL.

    On the newest PostgreSQL only.
    """
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    nodes = [f"{path}::{name}" for name, path in files_with(tests).items()]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-p", "no:xdist", "-k", "not 15", f"--junitxml={report}", *nodes),
    ]
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "TEST_DATABASE_URL": database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_LONGEST_S,
    )
    failures = dict(_failures(report)) if report.exists() else {}
    return TestRun(failures=failures, output=done.stdout, took_s=time.monotonic() - began)


def _failures(report: Path) -> Iterator[tuple[str, list[str]]]:
    """By test function, all its parameters together."""
    found: dict[str, list[str]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest's own report
        name = case.get("name", "").partition("[")[0]
        reports = found.setdefault(name, [])
        for failed in (*case.findall("failure"), *case.findall("error")):
            reports.append(f"{failed.get('message')}\n{failed.text}")
    yield from found.items()


def complaints(mutant: Mutant, run: TestRun, green: Collection[str]) -> list[str]:
    """Yield why this run isn't as the mutant says. Nothing if it is."""
    ran = (mutant.test, *green)
    wrong = [f"{name} did not run" for name in ran if name not in run.failures]
    reports = run.failures.get(mutant.test, ())
    if not reports:
        wrong.append(f"{mutant.test} stayed green")
    wrong += [
        f"{mutant.test} failed of something else" for one in reports if mutant.fails not in one
    ]
    wrong += [f"{name} failed too" for name in green if run.failures.get(name)]
    return wrong
