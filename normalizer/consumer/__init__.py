"""The service: reads records of a consumer group, writes canonical events to a store.

service          the loop (fetch, normalize, store, commit) and its monitoring
critical_tasks   tasks that must run as long as the service does
membership       joins the group, and keeps its partitions claimed
watchdog         finds partitions that have records and make no progress
claims           claims assigned partitions in PostgreSQL, and checks their logs
ownership        keeps the state of each partition
partition_state  the states of a partition, and the transitions between them
record_store     the interface of a store, as the service needs it
suspects         finds the record that kills its process
group_offsets    commits positions to the group, for lag tools
turns            fetches from suspects and healthy partitions in turn
batch_filler     fetches until a batch is full or due
intake           normalizes records into a batch
slow_records     lets only its own partition wait for a slow record
set_aside        writes parts that wait for a lock separately from other partitions
waits            asks the server what a slow batch is waiting for
"""
