"""Laws, each with its name."""
