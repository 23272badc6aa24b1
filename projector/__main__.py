"""`python -m projector` is `projector`."""

from projector.cli import main

main(prog_name="projector")
