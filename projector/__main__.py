"""`projector`, which `python -m projector` is too."""

from normalizer.program_start import start


def main() -> None:
    """Run a command."""
    start("projector")


if __name__ == "__main__":
    main()
