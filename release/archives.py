"""Archives whose bytes depend on the names and contents of their files alone."""

import gzip
import io
import tarfile
from pathlib import Path


def pack(folder: Path, target: Path, epoch: int, *, under: str) -> None:
    """Write a folder's files into an archive: .tar, or a compressed one by the target's name.

    In the archive they're in the folder `under`, and all have the same time (seconds since 1970),
    so that the same files always give the same bytes.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            name = str(Path(under) / path.relative_to(folder))
            archive.add(path, name, recursive=False, filter=lambda member: _plain(member, epoch))
    content = packed.getvalue()
    target.write_bytes(content if target.suffix == ".tar" else gzip.compress(content, mtime=epoch))


def _plain(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member.replace(mtime=epoch, mode=mode, uid=0, gid=0, uname="", gname="", deep=False)
