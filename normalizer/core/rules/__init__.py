"""The rules, one per module, in the order in which they are applied to an event.

event_types      maps the spellings of an event type to its class
names            event_type, command_id, step, worker_id, node_type
status           the status, and how strong its evidence is
identifiers      the ids of the event, its execution, and its parents
timestamps       the time of the event
attempt_numbers  how many retries came before this attempt
durations        the duration in seconds
error_text       the text of the error
"""

from normalizer.envelope import RULES

__all__ = ["RULES"]
