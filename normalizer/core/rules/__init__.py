"""The rules, one a module, in the order an event meets them.

redaction         which keys are secret
secret_tokens     tokens with a published prefix
secret_values     which values look like secrets, and where they end
secret_patterns   secrets with a form of their own
secret_commands   passwords that command lines give to a program
secret_prose      secrets that a sentence names
secret_text       cuts secrets out of text
secret_members    members of lists and objects that their neighbours make secret
names             event_type, step, worker_id, command_id, node_type
status            the status, and how strong its evidence is
identifiers       the ids of the event, its execution and its parents
timestamps        when the event happened
attempt_numbers   how many retries came before this attempt
durations         how long it took, in seconds
error_text        the text of the error
"""

from normalizer.envelope import RULES

__all__ = ["RULES"]
