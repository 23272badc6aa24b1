"""Secrets, and text that PostgreSQL cannot hold, leave a record.

prefilter         one fast search for secrets, unstorable text, and extreme numbers
suspicious_parts  parses only the suspicious parts of a text
json_in_text      finds JSON inside other text
plain_keys        finds out fast which keys and values need no further search
sanitize          removes the secrets and unstorable text that the search found
unstorable        replaces text that PostgreSQL can't store
redact_stored     removes secrets from a stored row

What is secret:

secret_names     which keys are secret
secret_tokens    tokens with a published prefix
secret_values    which values look like secrets, and where they end
secret_patterns  secrets with their own recognizable form
secret_commands  passwords in command lines
secret_prose     secrets that a sentence names
secret_text      cuts secrets out of text
secret_members   members of lists and objects whose neighbors make them secret
"""
