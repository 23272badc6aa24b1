"""The rules, one module a question, in the order an event meets them.

redaction    is this key secret, and what of this text may be kept?
words        event_type, step, worker_id, command_id, node_type: which of their places counts?
status       how did it go, and who says so?
identity     which event, which execution?
times        when did it happen?
attempts     how many retries came before this try?
durations    how long did it take, in seconds?
errors       what went wrong, in words?
"""

from normalizer.envelope import RULES

__all__ = ["RULES"]
