"""The relay: publishes canonical events to Kafka, exactly once, for engines that read them there.

output_records   builds the records of the canonical topic and of the rejected topic
part_output      builds the output of one part of a batch
relay_positions  the metadata committed with an offset: how far a partition was read, and of which
                 log
relay_store      the relay's store, which claims partitions and writes batches to Kafka

From PostgreSQL instead of the raw topic:

event_relay          sends stored events to Kafka
event_relay_monitor  its /metrics, /livez and /readyz
event_pages          reads them for the relay, in an order that no late commit can undercut
relay_statements     its SQL statements
"""
