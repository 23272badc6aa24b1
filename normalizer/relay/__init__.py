"""The relay: publishes canonical events to Kafka, exactly once, for engines that read them there.

It has two forms. `normalizer relay` reads the raw topic as the service does, with the same
consumer, and needs no database, because its positions are offsets of a consumer group:

output_records   builds the records of the canonical topic and of the rejected topic, part by part.
relay_positions  has the metadata that is committed with each offset.
kafka_store      claims partitions and writes batches to Kafka. The consumer uses it as its store.

With --from-postgres, it publishes the events that the service has stored in PostgreSQL:

event_relay          sends stored events to Kafka.
event_relay_monitor  serves its /metrics, /livez, and /readyz.
event_pages          reads the stored events, and then their changes, so that none is missed.
"""
