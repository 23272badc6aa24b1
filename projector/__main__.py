"""Starts the program `projector`, so that `python -m projector` does the same as the command."""

from normalizer.runtime.program_start import start_program


def main() -> None:
    """Run a command."""
    start_program("projector")


if __name__ == "__main__":
    main()
