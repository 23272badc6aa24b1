"""What the wheel holds, and what it says about itself."""

import re
import subprocess
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import msgspec

from tests.support.wheel import ROOT, build_wheel, copied_into_the_build


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel: the names in it, its metadata, and what was said while it was built."""

    names: set[str]
    metadata: Message
    said: str


def build(folder: Path) -> Built:
    wheel, said = build_wheel(folder)
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = opened.read(metadata).decode()
    return Built(names=names, metadata=Parser().parsestr(text), said=said)


def building_it_warns_of_nothing(built: Built) -> None:
    assert [line for line in built.said.splitlines() if "warning" in line.lower()] == []


def it_holds_the_two_packages_and_nothing_else(built: Built) -> None:
    folders = {name.split("/")[0] for name in built.names if ".dist-info/" not in name}

    assert folders == {"normalizer", "projector"}


def it_holds_every_file_of_them(built: Built) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", *copied_into_the_build()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")

    wanted = {
        name
        for name in tracked
        if name.startswith(("normalizer/", "projector/"))
        and (ROOT / name).is_file()
        and not (ROOT / name).is_symlink()
    }
    migrations = {f"normalizer/{name}" for name in tracked if name.startswith("migrations/")}
    assert {"normalizer/py.typed", "projector/py.typed"} <= wanted
    assert wanted | migrations | {"normalizer/vectors/records.ndjson"} <= built.names


def it_carries_the_charting_library_with_its_licence(built: Built) -> None:
    files = ("uplot.js", "uplot.css", "LICENSE.uplot.txt")

    assert {f"projector/api/page/charts/{name}" for name in files} <= built.names


def test_without_maven_it_is_built_without_charts_and_says_so(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path, PATH="", XDG_CACHE_HOME=str(tmp_path / "cache"))

    assert "The page will have no charts: Maven downloads them" in said
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert "projector/api/page/assets/charts.js" in names
    assert not any("uplot" in name for name in names)


def its_metadata_is_short_and_true(built: Built) -> None:
    metadata = built.metadata
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert metadata["Version"] == project["version"]
    assert len(metadata["Summary"]) < 160
    assert len(metadata["Keywords"].split(",")) >= 5
    assert metadata["License-Expression"] == "Apache-2.0"
    # The project has no address on the network.
    assert metadata.get_all("Project-URL", []) == []
    assert metadata["Home-page"] is None


def a_version_of_python_is_named_only_where_it_is_tested(built: Built) -> None:
    """By .ci/pythons, with each that is installed there."""
    classifiers = "\n".join(built.metadata.get_all("Classifier", []))
    page = (ROOT / "docs" / "supported.md").read_text()
    tested = re.search(r"^\| Python (3\.\d+) and newer \| ([^|]*) \|", page, re.MULTILINE)

    assert tested is not None
    named = set(re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE))
    assert named == set(re.findall(r"3\.\d+", tested[2]))
    assert built.metadata["Requires-Python"] == f">={tested[1]}"


def test_the_wheel_has_its_files_and_metadata(tmp_path: Path) -> None:
    built = build(tmp_path)

    for check in (
        building_it_warns_of_nothing,
        it_holds_the_two_packages_and_nothing_else,
        it_holds_every_file_of_them,
        it_carries_the_charting_library_with_its_licence,
        its_metadata_is_short_and_true,
        a_version_of_python_is_named_only_where_it_is_tested,
    ):
        check(built)
