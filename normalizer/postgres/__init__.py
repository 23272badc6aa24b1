"""Opens connections to PostgreSQL, for the normalizer and the projector.

All connections come from `database.connect`. They keep no state in the session and apply their
settings in each transaction, so they also work behind a pooler in transaction mode.

database             opens every connection, and closes it.
database_connection  is such a connection.
"""
