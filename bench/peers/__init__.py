"""The service beside other ways to bring the same topic into the same database.

contestants   who takes part, and what each one leaves out
installs      an environment of its own for each
costs         CPU and memory of processes
drains        how fast a full topic is read, and at what cost
latencies     how long a record takes to become visible
comparison    rounds over all of it, and their rows of results
programs/     the contestants that are Python
go/ bento/ connect/  the others
"""
