"""PostgreSQL: batches, claims, quarantine, migrations, ids, and rights."""
