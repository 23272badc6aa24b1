"""Starts the program `projector`, so that `python -m projector` does the same as the command."""

from normalizer.runtime.program_start import run_cli


def main() -> None:
    """Run a command."""
    run_cli("projector")


if __name__ == "__main__":
    main()
