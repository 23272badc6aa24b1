"""The rules, which turn a record into canonical events without I/O, clock, or randomness.

In the order an event meets them:

raw_record      a record as it is in a log
bounds          the limits of a record, checked over its bytes
prefilter       one fast search for secrets, unstorable text, and extreme numbers
suspicious_parts  parses only the suspicious parts of a text
json_in_text    finds JSON inside other text
plain_keys      finds out fast which keys and values need no further search
sanitize        removes the secrets and unstorable text that the search found
unstorable      replaces text that PostgreSQL can't store
samples         the beginning of a rejected value that operators may see
headers         reads the headers of a record without secrets, and the trace id
decode          turns bytes into wire events: opens envelopes and wrappers, splits batches
decode_json     decodes one JSON text
cloudevents     writes a canonical event as a CloudEvent
unwrap          opens the envelopes of others: CloudEvents, Kafka Connect, Debezium
levels          combines a wire event with its batch and wrappers
wire_event      one wire event, decoded for the rules
wire_fields     every field that a rule reads
wire_values     reads single JSON values
shapes          recognizes which producer wrote an event, only for provenance
shape_table     an operator's shapes: other names and places of fields
normalize       applies every rule to an event
rules/          one rule per module
event_types     maps the spellings of an event type to its class
encoded_events  an event as the columns of its row, and the lane that reads such events
batch           the records of one transaction with their outcomes
batch_builder   collects a batch
last_try        how many records an owner was processing when it ended
coordinates     identifies events by their coordinates
stored_events   the rows that reconciling reads from the database, and its plan
reconcile       finds out whether it's the same record, the same event, or another event with the
                same id
collisions      decides which events share an id
merge           merges two reports of one event into one row
conflicts       keeps the values that lost in a merge
coercions       reads the coercions of a stored row
merge_flags     what a row remembers about its reports
digests         compares JSON values by their digests
denormalize     turns a stored row back into a raw record
restore_text    restores the text and headers of a stored row
redact_stored   removes secrets from a stored row
drift           finds undocumented fields
"""
