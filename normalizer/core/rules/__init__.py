"""The rules, one module a question, in the order an event meets them.

redaction      is this key secret?
secret_tokens  how do published tokens begin?
secret_values  does this value look like a secret, and where does it end?
secret_patterns  which secrets have a form of their own?
secret_text    what of this text may be kept?
secret_members  which members of a list or an object do their neighbours make secret?
names          event_type, step, worker_id, command_id, node_type: which of their places counts?
status         how did it go, and who says so?
identifiers    which event, which execution?
timestamps     when did it happen?
attempt_numbers  how many retries came before this try?
durations      how long did it take, in seconds?
error_text     what went wrong, in words?
"""

from normalizer.envelope import RULES

__all__ = ["RULES"]
