"""Reasons to refuse a release, and why its archives have the same bytes twice."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from release.archives import pack
from release.checks import compare
from release.commands import ReleaseError
from release.sources import clean_commit, commit, export
from release.views import VIEWS_FILE, check_columns_kept

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["packed.tar", "packed.tar.gz"])
def test_an_archive_depends_on_names_and_contents_alone(tmp_path: Path, name: str) -> None:
    packed = []
    for number, order in enumerate(("ab", "ba")):
        folder = tmp_path / f"folder-{number}"
        (folder / "sub").mkdir(parents=True)
        for one in order:
            (folder / "sub" / one).write_text(one)
            os.utime(folder / "sub" / one, (number, number))
            (folder / "sub" / one).chmod(0o600 + number * 0o44)
        pack(folder, tmp_path / name, 1_790_000_000, under="the-name")
        packed.append((tmp_path / name).read_bytes())

    assert packed[0] == packed[1]
    with tarfile.open(tmp_path / name) as opened:
        assert opened.getnames() == ["the-name/sub", "the-name/sub/a", "the-name/sub/b"]
        assert {member.mtime for member in opened} == {1_790_000_000}


def test_differences_between_two_builds_are_named(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "same").write_text("1")
        (folder / "wheel").write_text(folder.name)
    compare(first, first)
    (second / "new").touch()

    with pytest.raises(ReleaseError, match=r"but differ: new, wheel$"):
        compare(first, second)


def test_a_release_is_made_of_the_commit_and_of_nothing_beside_it(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    _git(checkout, "init", "--quiet")
    (checkout / "known").write_text("committed")
    _git(checkout, "add", ".")
    _git(checkout, "commit", "--quiet", "--message", "one")
    assert clean_commit(checkout) == commit(checkout)
    (checkout / "unknown").touch()

    tree = export(checkout, commit(checkout), tmp_path / "tree")

    assert [path.name for path in tree.iterdir()] == ["known"]
    with pytest.raises(ReleaseError, match="commit first: unknown"):
        clean_commit(checkout)


@pytest.mark.parametrize(
    ("now", "is_allowed"),
    [("ab", True), ("abc", True), ("a", False), ("ba", False), ("acb", False), ("", False)],
)
def test_a_view_only_gains_columns_within_a_series(
    tmp_path: Path, now: str, is_allowed: bool
) -> None:
    def publish(columns: str) -> None:
        listed = [{"name": one} for one in columns]
        views = [{"name": "calls", "columns": listed}] if columns else []
        (tmp_path / VIEWS_FILE).write_text(json.dumps(views))

    (tmp_path / VIEWS_FILE).parent.mkdir()
    _git(tmp_path, "init", "--quiet")
    publish("ab")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "--message", "one")
    _git(tmp_path, "tag", "v0.1.0")
    publish(now)

    check_columns_kept(tmp_path, "0.2.0")
    if is_allowed:
        check_columns_kept(tmp_path, "0.1.1")
    else:
        with pytest.raises(ReleaseError, match=r"view calls must begin with .* v0\.1\.0: a, b$"):
            check_columns_kept(tmp_path, "0.1.1")


def test_the_sbom_lists_components_that_pip_did_not_install(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.write_text("libc6 2.41-12 amd64\n")
    bom = {"bomFormat": "CycloneDX", "components": [{"name": "click"}]}

    done = subprocess.run(
        [sys.executable, "release/sbom.py", packages],
        cwd=ROOT,
        input=json.dumps(bom),
        capture_output=True,
        text=True,
        check=True,
    )

    _click, uplot, libc = json.loads(done.stdout)["components"]
    assert uplot["purl"] == f"pkg:npm/uplot@{uplot['version']}"
    assert libc["purl"] == "pkg:deb/debian/libc6@2.41-12?arch=amd64"


def _git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)
