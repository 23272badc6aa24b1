"""Bytes of a record become wire events: envelopes and wrappers opened, batches split.

bounds       the limits of a record, checked over its bytes
headers      reads the headers of a record without secrets, and the trace id
samples      the beginning of a rejected value that operators may see
decode       turns bytes into wire events: opens envelopes and wrappers, splits batches
decode_json  decodes one JSON text
unwrap       opens the envelopes of others: CloudEvents, Kafka Connect, Debezium
levels       combines a wire event with its batch and wrappers
wire_event   one wire event, decoded for the rules
wire_fields  every field that a rule reads
wire_values  reads single JSON values
shape_table  an operator's shapes: other names and places of fields
"""
