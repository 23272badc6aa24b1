"""Opens connections to PostgreSQL, for the normalizer and the projector.

All connections come from `database.connect`. They also work behind a pooler in transaction mode,
because they apply their settings in each transaction and keep no state in the session.

database             opens every connection, and closes it.
database_connection  is such a connection.
"""
