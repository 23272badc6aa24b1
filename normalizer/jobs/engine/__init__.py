"""The parts that every job shares, in the order in which a run uses them.

spec               the kind, source, and options that identify a job, and its id
stored_state       reads what the database knows about sources when a job begins
runner             runs a job once: heartbeat, stop, throttle, result
job_run            one run of a job, protected by an advisory lock and an epoch
throttle           waits while live traffic has lag, and limits the rate
source_pages       cuts pages of a source, and turns them into parts of a batch
job_positions      the positions of a run, which each batch moves
id_ranges          divides all stored events into ranges of ids
run_progress       the progress and the result of a run, as lines
job_statements     every SQL statement of the jobs
"""
