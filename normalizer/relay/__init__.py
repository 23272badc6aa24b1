"""The relay: publishes canonical events to Kafka, exactly once, for engines that read them there.

output_records   makes the records of the canonical topic and of the refused one
part_output      makes what is written of one part of a batch
relay_positions  what is committed with an offset: how far a partition was read, and of which log
relay_store      the service's store in Kafka: claims partitions, and writes batches
"""
