"""Writes small state files atomically, readable by their owner only."""

from pathlib import Path


def write_private_file(file: Path, content: str) -> None:
    """Write the file. If the disk is full or the process is killed, the file stays as it was."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(file)
