"""The parts that every job shares, in the order in which a run uses them.

Together they make sure that a job has one runner at a time, that it resumes where it was killed,
and that its result is stored.

job_spec       identifies a job by its kind, source, and options.
known_sources  reads what the database knows about sources when a job begins.
runner         runs a job once, with a heartbeat, a stop, a throttle, and a result.
job_run        is one run of a job, protected by an advisory lock and an epoch.
throttle       waits while live traffic has lag, and limits the rate.
job_positions  locks, checks, and moves the positions of a run with each batch.
id_ranges      divides all stored events into ranges of ids.
run_progress   prints the progress and the result of a run, as lines.
"""
