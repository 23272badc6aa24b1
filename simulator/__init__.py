"""A platform that tells the truth: it knows what happened before any producer writes it down.

In the order in which a fact becomes a record:

    mix.py            everything about the traffic that can be set
    playbooks.py      the catalogue, seeded
    contents.py       what calls carry, as it is sent and as it may be kept
    facts.py          what happens, in the platform's own terms
    story.py          the life of one execution, as facts
    world.py          many lives at once, in the order of the platform's clock
    ids.py times.py words.py attempts.py
                      how ids, times, outcomes and tries are written, and what each means
    telling.py        one fact as one producer tells it, and what a reader must take from it
    worker.py rust_server.py python_server.py python_rows.py
                      the producers, every shape and variant
    deployments.py    which producers run together
    oddities.py       one odd thing about a sound telling
    packing.py        wrappers, batches, headers, double encoding
    poison.py         records that break readers
    record.py         a record, and what must become of it
    topic.py          second tellings, delays, repeats, partitions
    ledger.py         what must become of every record, in a file
    lines.py          records into a file, as kcat prints them
    kafka.py          records into a topic
    play.py           so much of it, with its ledger

and then the truth beside what a database holds:

    expected.py       the tellings of one event, and the row they make out
    tries.py          which try of its command each event is of
    database.py       rows, quarantine and totals of one topic
    piles.py          more of both than memory holds
    compare.py compare_ids.py compare_totals.py report.py
                      every difference
    truth.py          what a dashboard must show of each execution, step and call
    shown.py          what the views do show
    compare_views.py  every difference between them

It must not be able to agree with the normalizer by accident, so it never imports it: every rule it
needs is written here a second time, from the spec, the other way round.

What wire-shapes names and this does not produce, and why:

    an id a browser has rounded: it looks like any other id, and is stored as it is
    a record without a time: Kafka gives every record one
    rows inserted by hand in SQL: no record brings them
    missing_time, rejected_by_database: no record of Kafka earns the first, and the second is a
        bug whenever it happens
    two different tellings of one event that the spec lets one take for two, by a third one that
        knows less than both: which row that one joins hangs on the order
"""
