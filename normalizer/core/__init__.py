"""The rules: a record becomes canonical events. No I/O, no clock, no randomness.

In the order an event meets them:

raw_record      a record as a log holds it
bounds          the limits of a record, checked over its bytes
prefilter       one fast search for secrets, unstorable text and extreme numbers
suspicious_parts  parses the parts of a text with a sign
json_in_text    finds JSON inside other text
plain_keys      tells by fast checks which keys and values need no look
sanitize        removes what the search found
unstorable      replaces text that PostgreSQL cannot hold
samples         the beginning of a refused value that operators may see
headers         the headers of a record without secrets, and the trace id
decode          bytes to wire events: opens envelopes and wrappers, splits batches
decode_json     decodes one JSON text
cloudevents     writes a canonical event as a CloudEvent
unwrap          opens the envelopes of others: CloudEvents, Kafka Connect, Debezium
levels          one wire event of its level, its batch and what is around them
wire_event      one wire event, decoded for the rules
wire_fields     every field that a rule reads
wire_values     reads single JSON values
shapes          which producer wrote an event; provenance only
shape_table     further shapes by a table: other names and places of fields
normalize       applies every rule to an event
rules/          one rule a module
event_types     which spellings are one event type
encoded_events  an event as the columns of its row, and the lane that reads such events
batch           the records of one transaction with their outcomes
batch_builder   collects a batch
last_try        how many records an owner had in hand when it ended
coordinates     identifies events by their coordinates
stored_events   what reconciling reads from the database, and its plan
reconcile       same record, same event, or another event with the same id
collisions      which events share an id
merge           merges two reports of one event into one row
conflicts       keeps the values that lost in a merge
coercions       reads what the rules changed in a stored row
merge_flags     what a row remembers of its reports
digests         compares JSON values by their digests
denormalize     turns a stored row back into a raw record
restore_text    restores the text and headers of a stored row
redact_stored   removes secrets from a stored row
drift           finds undocumented fields
"""
