"""Raw events of four producers in, one canonical envelope out, exactly once in PostgreSQL."""
