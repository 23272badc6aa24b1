"""The rules, one per module, in the order in which they are applied to an event.

event_types      maps the spellings of an event type to its class.
names            finds the event_type, command_id, step, worker_id, and node_type.
status           finds the status, and how strong the evidence for it is.
identifiers      reads the ids of the event, its execution, and its parents.
timestamps       finds the time of the event.
attempt_numbers  finds out how many retries came before this attempt.
durations        finds the duration in seconds.
error_text       finds the text of the error.
"""

from normalizer.envelope import COERCION_RULES

__all__ = ["COERCION_RULES"]
