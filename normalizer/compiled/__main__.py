"""`python -m normalizer.compiled` compiles the core, unless that was done from these sources.

`python -m normalizer.compiled FOLDER` compiles it into another folder, which nobody reads.
Exits with 0 also where it cannot: the core then runs as Python, and one line says why.
"""

import sys
import time
from pathlib import Path

import click

from normalizer.compiled.core_build import CannotCompile, build
from normalizer.compiled.core_finder import compiled_folder, unfit_because


def main(folder: Path) -> None:
    """Compile the core where that is needed and possible."""
    if not unfit_because(folder):
        return
    click.echo("compiling the core, once for these sources")
    began_s = time.monotonic()
    try:
        build(folder)
    except CannotCompile as error:
        click.echo(f"the core runs as Python, slower: {error}")
    else:
        click.echo(f"the core is compiled, in {time.monotonic() - began_s:.0f} s")


main(Path(sys.argv[1]) if len(sys.argv) > 1 else compiled_folder())
