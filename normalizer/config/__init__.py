"""Reads the configuration of a process from environment variables.

Every command begins here. All mistakes are reported at once, with the name of each variable, and a
password never appears in a message.

passwords         finds and masks the passwords in URLs.
settings          declares every setting: its default, bounds, unit, and description.
tls_files         loads the TLS files, and names a file that can't be used.
environment       reads the settings from environment variables.
configured_rules  builds the rules, with the operator's secret words and table of wire shapes.
"""
