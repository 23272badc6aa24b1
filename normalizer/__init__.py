"""Raw events of four producers in, one canonical envelope out, exactly once in PostgreSQL.

In the order an event meets them; docs/flow.md walks the same way with one event in hand.

The loop
    service       fetch, normalise, store, advance: every step named, none done
    kafka/        records in; the only importer of aiokafka
    membership    the group joined, its partitions kept claimed and watched
    ownership     which partitions are ours, by claims in PostgreSQL
    filling       chunks of partitions become a batch

The core: no I/O, no clock, no chance
    record        what a log holds
    sanitize      one look for secrets, unstorable text and extreme numbers
    wire          bytes to wire events: wrappers undone, batches exploded
    wire_event    one of them, as the rules read it
    shapes        who wrote it: provenance only
    normalize     asks each rule its question
    rules/        one question a module
    headers, jsontext, snowflake, event_types
    envelope      the canonical event and its bytes: a library for producers too
    filter        the core alone, a line in, a line out
    rebuild       a stored row back to a raw record

One batch, one transaction
    batch         a stretch of each partition, with the outcomes of its records
    delivery      tries again, halves, sets one record aside
    store         the only place that writes events
    session       a transaction; the database's errors die there
    sqlstate      whose fault an error is
    positions     locked, checked, moved with their running totals
    settle        same record, same event, or two events with one id
    join          two tellings, one row
    buckets, rows, statements, refusals

How it goes
    metrics       every name with what it means and what to do
    counting      a committed transaction into counts
    radar         what producers send that nobody documented
    standing      where broker and database stand, asked at each scrape
    monitor       /metrics, /livez, /readyz
    probes        the HTTP server under them, on threads of its own

Around it
    jobs/         backfill, renormalise, redrive, export: the same normalise and store
    playback      a file instead of a broker
    ledger        is every offset accounted for?
    explain, quarantine, check
    migrate, settings, telemetry, errors, signals, database, lines, unpack
    embedded/, up/, child, become   real servers as child processes
    cli           the commands
"""
