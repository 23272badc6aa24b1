"""The configuration of a process: settings, passwords, TLS files, and rules.

passwords         finds and masks the passwords in URLs
settings          declares every setting: its default, bounds, unit, and description
tls_files         loads the TLS files, and names a file that can't be used
environment       reads the settings from environment variables
configured_rules  builds the rules, with the operator's secret words and table of shapes
"""
