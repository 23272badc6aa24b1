"""The relay: publishes canonical events to Kafka, exactly once, for engines that read them there.

output_records   builds the records of the canonical topic and of the rejected topic
part_output      builds the output for one part of a batch
relay_positions  the metadata committed with an offset: how far a partition was read, of which
                 log, and by which process
relay_store      the relay's store, which claims partitions and writes batches to Kafka

With --from-postgres, the relay reads the events from PostgreSQL instead of the raw topic:

event_relay          sends stored events to Kafka
event_relay_monitor  serves its /metrics, /livez, and /readyz
event_pages          reads stored events in an order behind which nothing can commit later
relay_statements     its SQL statements
"""
