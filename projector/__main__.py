"""The program `projector`, also started by `python -m projector`."""

from normalizer.runtime.program_start import start


def main() -> None:
    """Run a command."""
    start("projector")


if __name__ == "__main__":
    main()
