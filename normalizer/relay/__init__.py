"""The relay: publishes canonical events to Kafka, exactly once, for engines that read them there.

output_records   builds the records of the canonical topic and of the refused topic
part_output      builds the output of one part of a batch
relay_positions  the metadata committed with an offset: how far a partition was read, and of which
                 log
relay_store      the relay's store, which claims partitions and writes batches to Kafka
"""
