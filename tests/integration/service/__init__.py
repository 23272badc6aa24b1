"""The service that reads Kafka: partitions, outages, large records, probes, and secrets."""
