"""Decodes the bytes of a record into wire events, i.e. events as a producer sent them.

record_limits    checks a record's limits by its bytes.
headers          reads the headers of a record without secrets, and the trace id.
rejected_sample  takes the first bytes of a rejected value that operators may see.
decode           decodes bytes into wire events: opens envelopes and wrappers, splits batches.
decode_json      decodes one JSON text.
lane_cleaner     removes the secrets of an event before the native lane reads it.
unwrap           opens the envelopes of CloudEvents, Kafka Connect, and Debezium.
record_layers    combines a wire event with the fields of its batch and its wrappers.
wire_event       holds one wire event, decoded for the rules.
wire_fields      has every field that a rule reads.
wire_values      reads single JSON values.
shape_table      reads an operator's table of shapes: other names and places of fields.
"""
