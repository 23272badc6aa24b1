"""The service: reads the records of a consumer group and writes canonical events to a store.

service            has the loop (fetch, normalize, store, commit).
batch_observer     counts, measures, and logs what happens to the batches.
critical_tasks     runs tasks without which the service can't continue.
membership         joins the consumer group, and keeps its partitions claimed.
watchdog           finds partitions that have unread records but make no progress.
partition_claimer  claims assigned partitions in PostgreSQL, and checks their logs in Kafka.
ownership          keeps the state of each partition.
partition_state    has the states of a partition, and the transitions between them.
record_store       has the interface of a store: PostgreSQL for the service, Kafka for the relay.
suspects           finds the record that kills the processes which read it.
group_offsets      commits positions to the consumer group, for lag tools only.
fetch_scheduler    decides which partitions the next fetch reads.
batch_filler       fetches until a batch is full or due.
chunk_normalizer   normalizes records into a batch.
slow_records       sees that a slow record delays no partition except its own.
set_aside          writes the part of a batch that waits for a lock apart from the rest.
lock_waits         finds out what a slow batch is waiting for in PostgreSQL.
"""
