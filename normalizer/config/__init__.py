"""Reads the configuration of a process from environment variables.

Every command begins here. If several variables are wrong, one error names all of them. No message
ever contains a password.

passwords         finds and masks the passwords in URLs.
settings          declares every setting: its default, bounds, unit, and description.
tls_files         loads the TLS files, and names a file that can't be used.
environment       reads the settings from environment variables.
configured_rules  builds the rules, with the operator's secret words and table of wire shapes.
"""
