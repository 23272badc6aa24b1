"""Counts and traces the consumer's work.

metric_catalog   every metric, with its meaning and what to do about it
service_metrics  the counters of the service
commit_metrics   counts the rows of a committed transaction

Tracing is on if OpenTelemetry's environment variables turn it on:

tracing          turns it on or off
batch_spans      makes the spans of a batch, from its fetch to its commit
producer_spans   finds the spans that produced a batch's records, for links
span_attributes  names and attributes, as in the semantic conventions
"""
