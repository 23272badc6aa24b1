"""What is decided about a record and its events: no I/O, no clock, no chance.

In the order an event meets them:

raw_record    what a log holds
bounds        what a record may come to, counted over its bytes
prefilter     one look for secrets, unstorable text and extreme numbers
sanitize      takes out what it finds
samples       what may be shown of a refused value
headers       redacted, and the trace id
decode        bytes to wire events: wrappers undone, batches exploded
wire_event    one of them, as the rules read it
shapes        who wrote it: provenance only
normalize     asks each rule its question
rules/        one question a module
event_types   which spellings are one type
batch         a stretch of each partition, with the outcomes of its records
reconcile     same record, same event, or two events with one id
collisions    which events share an id
merge         two tellings, one row
merge_flags   what a row remembers of them
digests       by which their values are compared
denormalize   a stored row back to a raw record
redact_stored  a stored row without its secrets
drift         what producers send that nobody documented
"""
