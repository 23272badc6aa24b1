"""The dashboard: index.html and the files that it loads."""

from pathlib import Path


def assets() -> dict[str, Path]:
    """Every file that index.html loads, by the name that it has under /assets/."""
    folder = Path(__file__).with_name("assets")
    return {path.name: path for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
