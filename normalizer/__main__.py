"""`normalizer`, which `python -m normalizer` is too."""

from normalizer.program_start import start


def main() -> None:
    """Run a command."""
    start("normalizer")


if __name__ == "__main__":
    main()
