"""The program `normalizer`, also started by `python -m normalizer`."""

from normalizer.runtime.program_start import start_program


def main() -> None:
    """Run a command."""
    start_program("normalizer")


if __name__ == "__main__":
    main()
