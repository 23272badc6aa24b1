"""What every job shares, in the order in which a run meets it.

spec               what makes one job another, and the id of the job
stored_state       what the database knows of sources when a job begins
runner             runs a job once: heartbeat, stop, throttle, result
job_run            one run of a job, held by an advisory lock and an epoch
throttle           waits while live traffic is behind, and keeps to a rate
source_pages       pages of a source, and the parts of a batch that they become
job_positions      the positions of a run, moved with each batch
id_ranges          walks all stored events in ranges of ids
run_progress       progress and result of a run, as lines
job_statements     every SQL text of the jobs
"""
