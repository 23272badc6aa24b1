"""PostgreSQL of the versions between the oldest and the newest, from Maven."""

import platform
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Final

VERSIONS: Final = {"16": "16.15.0", "17": "17.11.0"}

_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64v8"}
_DEADLINE_S: Final = 300


def unpack_postgres(version: str, folder: Path) -> Path:
    """The bin folder of a major version, unpacked into `folder`; Maven keeps what it downloads.

    Raises FileNotFoundError without Maven, CalledProcessError if Maven fails.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise FileNotFoundError("no Maven: type `apt-get install maven`")
    name = f"embedded-postgres-binaries-linux-{_MACHINES[platform.machine()]}"
    subprocess.run(
        [
            *(maven, "--batch-mode", "--quiet", "--strict-checksums", _PLUGIN),
            f"-Dartifact=io.zonky.test.postgres:{name}:{VERSIONS[version]}",
            f"-DoutputDirectory={folder}",
        ],
        check=True,
        timeout=_DEADLINE_S,
    )
    with zipfile.ZipFile(folder / f"{name}-{VERSIONS[version]}.jar") as jar:
        (packed,) = (member for member in jar.namelist() if member.endswith(".txz"))
        with jar.open(packed) as archive, tarfile.open(fileobj=archive, mode="r:xz") as files:
            files.extractall(folder, filter="data")
    return folder / "bin"
