"""Connections to PostgreSQL, for the projector too.

database             opens connections to PostgreSQL, for the projector too
database_connection  one such connection, which applies its settings in every transaction
"""
