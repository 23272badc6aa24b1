"""The native lane, compared with the rules in Python."""
