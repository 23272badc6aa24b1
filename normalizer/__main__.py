"""The program `normalizer`, also started by `python -m normalizer`."""

from normalizer.runtime.program_start import start


def main() -> None:
    """Run a command."""
    start("normalizer")


if __name__ == "__main__":
    main()
