"""Removes secrets from a record, and replaces text that PostgreSQL can't store.

prefilter         searches text fast for signs of secrets, unstorable text, and extreme numbers.
suspicious_parts  parses only the parts of a text that have such a sign.
json_in_text      finds JSON inside other text.
key_classifier    finds out fast which keys and values need no further search.
sanitize          removes the secrets and the unstorable text.
unstorable        replaces text that PostgreSQL can't store.
redact_stored     removes secrets from a stored row.

These modules decide what is a secret:

secret_names        finds keys that have secret values.
secret_tokens       finds tokens by their published prefixes.
secret_values       finds values that look like secrets, and where they end.
secret_patterns     finds secrets by their own recognizable form.
secret_commands     finds passwords in command lines.
secret_prose        finds secrets that a sentence names.
secret_text         cuts secrets out of text.
secret_by_neighbor  finds members of lists and objects that are secret because of those beside them.
"""
