"""Counts and traces the consumer's work.

Every process counts its own metrics, and `monitoring` exports them. Tracing is optional and needs
the extra `otel`.

metric_catalog   documents every metric, with its meaning and what to do about it.
service_metrics  has the counters of the service.

Tracing is on if OpenTelemetry's environment variables ask for it:

tracer           is the interface through which a service reports what happens to its batches.
tracing          turns it on or off.
batch_spans      makes the spans of a batch, from its fetch to its commit.
producer_spans   finds the spans that produced a batch's records, for links.
span_attributes  has names and attributes as in OpenTelemetry's semantic conventions.
"""
