"""The rules: turn a record into canonical events. No I/O, no clock, no randomness.

The modules, in the order in which they handle an event:

raw_record      holds a record as it is in a log.
decode/         decodes the record's bytes into wire events, one per event as a producer sent it.
redaction/      removes secrets, and text that PostgreSQL can't store.
shapes          recognizes which producer wrote an event, only to store it with the event.
normalize       applies every rule to an event.
rules/          has the rules, one per module.
evidence        says how well some columns of an event are known.
encoded_events  has an event as the bytes of its row, and the interface of the native lane.
batch           collects the records of one transaction with their outcomes.
previous_owner  reads how many records a process was working on when it was killed.
identity/       finds out whether two records are the same record, or report the same event.
coercions       reads which values of a stored row the rules have changed.
rebuild_record  turns a stored row back into a raw record.
restore_text    restores the text and headers of a stored row.
cloudevents     writes a canonical event as a CloudEvent.
drift           finds undocumented fields.
rules_hash      computes the hash of the rules, to find a native lane built from other ones.
record_address  parses how a user names a record or a partition.
json_schema     describes the canonical event as JSON Schema.
"""
