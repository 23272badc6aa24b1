"""What the consumer tells about its work: counters and traces.

metric_catalog   every metric, with its meaning and what to do about it
service_metrics  counters of the service
commit_metrics   counts the rows of a committed transaction

Tracing, where OpenTelemetry's variables turn it on:

tracing          turns it on or off
batch_spans      makes the spans of a batch, from its fetch to its commit
producer_spans   finds the spans that produced its records, for links
span_attributes  names and attributes by the semantic conventions
"""
