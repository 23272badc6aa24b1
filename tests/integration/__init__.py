"""A real broker and a real database."""
