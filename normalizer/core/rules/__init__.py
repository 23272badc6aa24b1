"""The rules, one per module, in the order an event meets them.

redaction         which keys are secret
secret_tokens     tokens with a published prefix
secret_values     which values look like secrets, and where they end
secret_patterns   secrets with their own recognizable form
secret_commands   passwords in command lines
secret_prose      secrets that a sentence names
secret_text       cuts secrets out of text
secret_members    members of lists and objects whose neighbors make them secret
names             event_type, step, worker_id, command_id, node_type
status            the status, and how strong its evidence is
identifiers       the ids of the event, its execution and its parents
timestamps        the time of the event
attempt_numbers   how many retries came before this attempt
durations         the duration in seconds
error_text        the text of the error
"""

from normalizer.envelope import RULES

__all__ = ["RULES"]
