"""A wheel in an environment of its own: its commands run, and without the simulator too."""

import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.doc_pages import blocks
from tests.support.stack import Stack
from tests.support.wheel import build_wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with its programs. Libraries are those of this environment, projects are not."""
    folder = tmp_path_factory.mktemp("installed")
    wheel, _ = build_wheel(folder / "wheel")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
            *("--disable-pip-version-check", "--no-deps", "--no-index", wheel),
        ],
        check=True,
    )
    (libraries,) = environment.glob("lib/python3*/site-packages")
    # A folder named in a .pth file: the .pth files in it, as of an editable install, are not read.
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def _done(folder: Path, *command: str | Path, given: str = "", **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **variables},
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def the_library_and_both_programs_run(installed: Path, tmp_path: Path) -> None:
    imports, *_ = blocks("library.md", "python")
    without = "import importlib.util; assert importlib.util.find_spec('simulator') is None"

    _done(tmp_path, installed / "python", "-c", f"{imports.text}\n{without}")
    normalize = str(installed / "normalizer")
    said = _done(tmp_path, normalize, "conform", "--", normalize, "normalize")

    assert "the same, up to level lines" in said
    assert _done(tmp_path, installed / "projector", "--version").startswith("projector")


def a_shape_is_added_by_the_table_of_the_page_alone(installed: Path, tmp_path: Path) -> None:
    page = "adding-a-shape.md"
    (table,), (record,) = blocks(page, "toml scheduler.toml"), blocks(page, "json record")
    (line,) = blocks(page, "json table-event")
    (tmp_path / "scheduler.toml").write_text(table.text)
    command = (tmp_path, installed / "normalizer", "normalize")

    said = _done(*command, given=record.text, NORMALIZER_SHAPES="scheduler.toml")

    assert said == line.text
    assert _done(*command, given=record.text) != line.text


@pytest.mark.soak
async def test_up_starts_without_traffic_and_says_how_to_get_some(
    installed: Path, stack: Stack
) -> None:
    await stack.new_broker("unused")  # leaves the test out where there is no Kafka
    folder = stack.folder / "up-from-a-wheel"

    said = _done(stack.folder, installed / "normalizer", "up", f"--folder={folder}", "--for=1")

    (line,) = (line for line in said.splitlines() if line.startswith("no traffic"))
    assert "python -m simulator play --live --bootstrap-servers=127.0.0.1:" in line
    assert line.endswith("--rate=200 --topic=noetl.events")


def without_kafka_too_it_starts_and_says_what_to_do(installed: Path, stack: Stack) -> None:
    folder = stack.folder / "up-from-a-wheel-without-kafka"
    up = (installed / "normalizer", "up", "--no-kafka", f"--folder={folder}", "--for=1")

    said = _done(stack.folder, *up)

    (line,) = (line for line in said.splitlines() if line.startswith("no traffic"))
    assert line.endswith("normalizer backfill file FILE")


def test_an_installed_wheel_runs_reads_shapes_and_starts_without_kafka(
    installed: Path, stack: Stack, tmp_path: Path
) -> None:
    the_library_and_both_programs_run(installed, tmp_path)
    a_shape_is_added_by_the_table_of_the_page_alone(installed, tmp_path)
    without_kafka_too_it_starts_and_says_what_to_do(installed, stack)


def test_make_installs_into_a_folder_whose_letters_the_locale_lacks(tmp_path: Path) -> None:
    """The environment's uv is a stand-in that builds and leaves this environment alone."""
    folder = tmp_path / "wörk ş"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[3] / "Makefile", folder)
    (folder / "src" / "small").mkdir(parents=True)
    (folder / "src" / "small" / "__init__.py").touch()
    (folder / "requirements-dev.lock").touch()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\n'
        '[tool.setuptools]\npackage-dir = {"" = "src"}\npackages = ["small"]\n'
    )
    build = "from setuptools.build_meta import build_editable; build_editable('wheel')"
    (programs / "uv").write_text(
        '#!/bin/sh\ncase "$*" in *--editable*) mkdir wheel; '
        f"exec {shlex.quote(sys.executable)} -c {shlex.quote(build)};; esac\n"
    )
    (programs / "python").write_text("#!/bin/sh\n")
    (programs / "activate").touch()
    for program in programs.iterdir():
        program.chmod(0o755)

    _done(folder, "make", f"PYTHON={sys.executable}", ".venv/installed", LC_ALL="C")

    assert list((folder / "wheel").glob("*.whl"))
