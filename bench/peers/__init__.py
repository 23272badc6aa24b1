"""Compares the service with other programs that bring the same topic into the same database.

contestants   the programs, and what each one leaves out
installs      installs each of them in a separate environment
costs         CPU and memory of processes
drains        how fast a full topic is read, and at what cost
latencies     how long a record takes to become visible
comparison    rounds over all of it, and their rows of results
programs/     the contestants that are written in Python
go/ bento/ connect/  the others
"""
