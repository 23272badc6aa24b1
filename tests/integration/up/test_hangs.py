"""A test that hangs ends, whatever swallows its timeout, and says where it hung."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.wheel import ROOT

_CONFTEST: Final = """
from tests.support.hangs import EndsHangs

def pytest_configure(config):
    config.pluginmanager.register(EndsHangs(grace_s=1))
"""
_SWALLOWED: Final = """
import time

def test_hangs():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""
_IN_THE_TEARDOWN: Final = """
import time
import pytest

@pytest.fixture
def waits():
    yield
    time.sleep(600)

def test_hangs(waits):
    time.sleep(60)
"""


@pytest.mark.parametrize(
    "hanging", [_SWALLOWED, _IN_THE_TEARDOWN], ids=["swallowed", "in the teardown"]
)
def test_a_hang_ends_and_names_its_test(hanging: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_hanging.py").write_text(hanging)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1\n")
    plugins = ["-p", "xdist", "-p", "pytest_timeout", "--numprocesses", "1"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, str(tmp_path)],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "crashed while running 'test_hanging.py::test_hangs'" in ended.stdout
    assert f'File "{tmp_path}/test_hanging.py"' in ended.stderr
