"""A workflow platform that knows what happened before any producer writes it down.

In the order in which a fact becomes a record:

    mix.py               everything about the traffic that can be set
    playbooks.py         the catalogue of playbooks, seeded
    payloads.py          what calls carry, as it is sent and as it may be kept
    facts.py             what happens, in the platform's own terms
    error_texts.py       names of custom events, error texts, and the ways in which a try fails
    lifecycles.py        the life of one execution, as facts
    world.py             many executions at once, in the order of the platform's clock
    ids.py time_formats.py status_words.py attempt_fields.py
                         how ids, times, outcomes and tries are written, and what each means
    evidence.py          how well a row's columns are known, as one number
    rendering.py         a fact as an event of one producer, and the fields a reader must get
    rust_worker.py rust_server.py python_server.py python_rows.py
                         the producers, every shape and variant
    layers.py            one event as its client sent it, and as each server stores it
    deployments.py       which producers run together
    mutations.py content_mutations.py
                         one oddity added to a sound event
    packing.py           wrappers, batches, headers, double encoding
    poison_records.py    records that break readers
    sent_record.py       a record, and its expected outcome
    topic_records.py     second reports, delays, repeats, partitions
    ledger_file.py       the expected outcome of every record, in a file
    kcat_lines.py        records into a file, as kcat prints them
    kafka_producer.py    records into a topic
    simulator_run.py     runs a mix into a topic or a file, with its ledger

and then what is expected, compared with what a database holds:

    expected_rows.py     the reports of one event, and the row they must make
    actual_rows.py       rows, quarantine and totals of one topic
    spill_partitions.py  more of both than memory holds, spilled to disk by execution
    compare.py compare_ids.py compare_totals.py comparison_report.py
                         every difference
    view_fold.py         one execution and its calls, folded from its rows
    expected_views.py    what the views must show, and what really happened
    actual_views.py      what the views show
    compare_views.py     every difference between them

It must not be able to agree with the normalizer by accident, so it never imports it: every rule it
needs is written here a second time, from the spec, the other way round.

It doesn't produce these parts of docs/spec/wire-shapes.md, for the given reasons:

    an id that a browser has rounded: it looks like any other id, and is stored unchanged
    a record without a time: Kafka gives every record one
    rows inserted by hand in SQL: no record brings them
    missing_time, rejected_by_database, skipped: no record of Kafka earns the first, the second is
        a bug whenever it happens, and the third is an operator's
    CloudEvents, Kafka Connect, Debezium and outboxes: tests/vectors has them
    shapes of a table: an operator names them
    two different reports of one event that the spec lets one take for two, by a third one that
        knows less than both: the order decides which row that one is merged into
"""
