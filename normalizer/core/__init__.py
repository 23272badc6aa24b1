"""The rules: a record becomes canonical events. No I/O, no clock, no randomness.

In the order an event meets them:

raw_record      a record as it is in a log
decode/         bytes to wire events
redaction/      removes secrets and unstorable text
shapes          recognizes which producer wrote an event, only for provenance
normalize       applies every rule to an event
rules/          one rule a module
evidence        how well the columns of an event are known
encoded_events  an event as the columns of its row, and the lane that reads such events
batch           the records of one transaction with their outcomes
batch_builder   collects a batch
last_try        how many records an owner was processing when it ended
identity/       the same record, the same event, or another event
coercions       reads the coercions of a stored row
denormalize     turns a stored row back into a raw record
restore_text    restores the text and headers of a stored row
cloudevents     writes a canonical event as a CloudEvent
drift           finds undocumented fields
rule_sources    the hash of the rules, which the native lane carries
places          parses the place of a record or a partition
json_schema     the canonical event as JSON Schema
"""
