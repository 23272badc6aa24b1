"""Starts the program `projector`, so that `python -m projector` does the same as the command."""

from normalizer.runtime.program_start import start


def main() -> None:
    """Run a command."""
    start("projector")


if __name__ == "__main__":
    main()
