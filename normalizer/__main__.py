"""The program `normalizer`, also started by `python -m normalizer`."""

from normalizer.runtime.program_start import run_cli


def main() -> None:
    """Run a command."""
    run_cli("normalizer")


if __name__ == "__main__":
    main()
