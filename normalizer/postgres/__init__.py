"""Connections to PostgreSQL, for the projector too.

database             opens every connection, and closes it
database_connection  one such connection, which applies its settings in every transaction
"""
