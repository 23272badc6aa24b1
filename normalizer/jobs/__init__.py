"""Jobs over history: the same normalise and the same store, beside live traffic.

In the order in which a record of history meets them:

backfill_commands  the command line of backfill
row_commands       the command line of renormalise, redrive, export and jobs
edge               what all commands share: options, settings, screen, exit codes
asked              what was asked, and the id of its job
known              what the database knows of sources
source             what every source gives: parts, and pages of records
files              lines of files and folders
defaults           what rows lack
topics             stretches of a topic
pages              rows of a statement, as many as fit in memory
tables             rows of a PostgreSQL table or query
playing            around the work of every job: progress, a stop, a verdict
runs               one run of a job: its lock, its epoch, its totals
pace               standing still for live traffic, and no faster than asked
backfill           the flow: read, normalise, write, until the source ends
filling            a batch while it fills
positions          the run's positions, moved with each batch
reporting          progress and verdict, as lines
overlay            what a dry run would have written
diff               what would change, field by field
dryrun             a backfill that only says what it would do
chunks             the log of events in stretches of ids
reread             one stored row under today's rules
renormalise        every stored row under today's rules
redact             secrets of older rules taken out of every place
redact_statements  every SQL text by which they are, but for events
redrive            refused records once more
export             stored events as canonical lines
forget             one execution erased, its counts kept
forget_statements  every SQL text by which it is
statements         every SQL text the jobs say
"""
