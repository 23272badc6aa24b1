"""Builds the container image with buildah, and saves it."""

import subprocess
import tempfile
from pathlib import Path

from release.archives import pack
from release.commands import ReleaseError, run
from release.sources import Commit


def build(tree: Path, name: str, commit: Commit, arguments: list[str]) -> None:
    """Build the image of a tree, passing more arguments on to buildah. Raises ReleaseError.

    It uses chroot isolation, which needs no container runtime. All files of the image have the time
    of the commit, so that the same tree gives the same image.
    """
    command = (
        *("buildah", "build", "--isolation", "chroot", "--timestamp", str(commit.epoch)),
        *("--build-arg", f"SOURCE_DATE_EPOCH={commit.epoch}"),
        *("--build-arg", f"REVISION={commit.revision}"),
        *("--target", "service", "--tag", name, *arguments, "."),
    )
    try:
        subprocess.run(command, cwd=tree, check=True)
    except FileNotFoundError as error:
        raise ReleaseError("buildah isn't installed: type `apt-get install buildah`") from error
    except subprocess.CalledProcessError as error:
        raise ReleaseError(f"buildah: exit code {error.returncode}") from error


def save(name: str, archive: Path, commit: Commit) -> None:
    """Write the image as an OCI archive, which `docker load` and `podman load` read."""
    with tempfile.TemporaryDirectory(dir=archive.parent.parent) as folder:
        run("buildah", "push", "--quiet", name, f"oci:{folder}:{name}", folder=archive.parent)
        pack(Path(folder), archive, commit.epoch, under="")
