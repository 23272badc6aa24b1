"""Both cores give the same outcomes; the compiled one runs beside its own sources only."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from setuptools._distutils.util import split_quoted

from normalizer.compiled import core_build
from normalizer.compiled.core_finder import (
    ABI,
    MANIFEST,
    compiled_folder,
    digests,
    unfit_because,
)
from tests.support.core_outcomes import corpus
from tests.support.stack import skip_or_fail

ROOT = Path(__file__).parents[2]


def _lines(seed: int, count: int, core: Mapping[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.core_outcomes", str(seed), str(count)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **core},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "count", [900, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(1_800)])]
)
def test_both_cores_give_the_same_outcomes(count: int) -> None:
    if why := unfit_because(compiled_folder()):
        skip_or_fail(f"no compiled core: {why}")

    python, *expected = _lines(1, count, {"NORMALIZER_CORE": "python"})
    compiled, *outcomes = _lines(1, count, {})

    assert (python, compiled) == ("python", "compiled")
    assert len(expected) == count
    differing = [
        n for n, pair in enumerate(zip(expected, outcomes, strict=True)) if len({*pair}) > 1
    ]
    assert [record for n in differing[:1] for record in islice(corpus(1, count), n, n + 1)] == []


def test_a_bench_leaves_the_choice_of_the_core_to_its_caller() -> None:
    code = (
        "import bench.drain, bench.against, bench.peers.comparison, os\n"
        "print(os.environ.get('NORMALIZER_CORE'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert done.stdout == "None\n"  # its services would run what tests run


@pytest.mark.soak
def test_the_same_sources_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_build, "MODULES", ("core.levels",))
    folders = [tmp_path / name / "core" for name in ("one", "other")]
    try:
        for folder in folders:
            core_build.build(folder)
    except core_build.CannotCompile as why:
        skip_or_fail(f"no compiled core: {why}")

    one, other = ({path.name: path.read_bytes() for path in each.iterdir()} for each in folders)

    assert len(one) == 2
    assert one == other


def _folder(path: Path, **sources: str) -> Path:
    manifest = {"abi": ABI, "sources": digests() | sources}
    (path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return path


def test_beside_its_own_sources_the_compiled_core_is_used(tmp_path: Path) -> None:
    assert unfit_because(_folder(tmp_path)) == ""


def test_beside_edited_sources_it_is_not_used(tmp_path: Path) -> None:
    edited = _folder(tmp_path, **{"core.decode": "0" * 64})

    assert unfit_because(edited) == "compiled from other sources: core.decode"


def test_without_one_the_core_runs_as_python(tmp_path: Path) -> None:
    assert unfit_because(tmp_path / "nowhere") == "not compiled"


def test_a_broken_manifest_leaves_it_unused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")

    assert unfit_because(tmp_path) == "its manifest cannot be read"


def test_without_a_compiler_one_line_says_why(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "normalizer.compiled", str(tmp_path)],
        cwd=ROOT,
        env={"PATH": os.defpath, "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[1:] == [
        "the core runs as Python, slower: no C compiler (no-such-compiler)"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_reason_not_to_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(core_build, "_check_tools", lambda: None)
    monkeypatch.setattr(shutil, "copyfile", copy)

    with pytest.raises(core_build.CannotCompile, match="No space left on device"):
        core_build.build(tmp_path / "core")

    assert list(tmp_path.iterdir()) == []


def test_the_compiler_is_given_a_path_with_a_space_as_one_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[str] = []

    def run(*_: object, env: Mapping[str, str], **__: object) -> SimpleNamespace:
        flags.extend(split_quoted(env["CFLAGS"]))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    tree = tmp_path / "it's a checkout"

    core_build._compile(tree)

    assert f"-ffile-prefix-map={tree}=." in flags
