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
    worker.py rust_server.py python_server.py
                      the producers, every shape and variant
    deployments.py    which producers run together
    poison.py         records that break readers
    record.py         a record, and what must become of it
    topic.py          batches, wrappers, second tellings, delays, repeats
    lines.py          records into a file, as kcat prints them
    kafka.py          records into a topic
    __main__.py       the command line

It must not be able to agree with the normalizer by accident, so it never imports it: every rule it
needs is written here a second time, from the spec, the other way round.
"""
