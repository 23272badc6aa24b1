"""No I/O, a second in all."""
