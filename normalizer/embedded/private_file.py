"""Small files of state, readable by their owner only, that no reader finds half written."""

from pathlib import Path


def write_private(file: Path, content: str) -> None:
    """Write the file; on a full disk, or if the process is killed meanwhile, it is as it was."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(file)
