"""`python -m normalizer` is `normalizer`."""

from normalizer.cli import main

main(prog_name="normalizer")
