"""Jobs over history: the same normalise and the same store, beside live traffic.

In the order in which a record of history meets them:

    backfill_commands.py  row_commands.py
                    the command line
    edge.py         what its commands share: options, settings, screen, exit codes
    asked.py        what was asked, and the id of its job
    known.py        what the database knows of sources
    source.py       what every source gives: parts, and pages of records
    files.py        lines of files and folders
    dumps.py        rows of an API dump
    defaults.py     what rows lack
    topics.py       stretches of a topic
    tables.py       rows of a PostgreSQL table or query
    playing.py      around the work of every job: progress, a stop, a verdict
    runs.py         one run of a job: its lock, its epoch, its totals
    pace.py         standing still for live traffic, and no faster than asked
    backfill.py     the flow: read, normalise, write, until the source ends
    filling.py      a batch while it fills
    positions.py    the run's positions, moved with each batch
    reporting.py    progress and verdict, as lines
    overlay.py      what a dry run would have written
    diff.py         what would change, field by field
    dryrun.py       a backfill that only says what it would do
    chunks.py       the log of events in stretches of ids
    reread.py       one stored row under today's rules
    renormalise.py  every stored row under today's rules
    redrive.py      refused records once more
    export.py       stored events as canonical lines
    statements.py   every SQL text the jobs say
"""
