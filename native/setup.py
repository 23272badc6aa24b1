"""Builds the native lane with cargo, as a wheel for every Python from 3.11 on.

The wheel carries the hash of the rules in the checkout around this folder.
"""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NAME = "event_normalizer_native"
HERE = Path(__file__).parent
RULES = HERE.parent / "normalizer" / "core" / "rules_hash.py"


class CargoBuild(build_ext):
    """Builds with cargo in place of a C compiler."""

    def build_extension(self, ext: Extension) -> None:
        """Build the module, and copy it to the path from which the wheel is packed."""
        rules_sha256 = runpy.run_path(str(RULES))["rules_sha256"]
        subprocess.run(
            ["cargo", "build", "--release", "--locked", "--quiet"],
            cwd=HERE,
            env=os.environ | {"RULES_SHA256": rules_sha256()},
            check=True,
        )
        built = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
        made = Path(self.get_ext_fullpath(ext.name))
        made.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built / "release" / f"lib{NAME}.so", made)


setup(
    ext_modules=[Extension(NAME, sources=[], py_limited_api=True)],
    cmdclass={"build_ext": CargoBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
