"""`normalizer up`: PostgreSQL, Kafka, normalizer, dashboard and traffic, started and stopped.

flow.py       the whole run on one page
stackfile.py  .noetl/: one run at a time, stack.json, the password file
servers.py    where database and broker come from: embedded here, or named by the shell on purpose
external.py   may we play into this database and topic
programs.py   normalizer, projector and traffic as child processes, each with its own environment
supervisor.py  what runs: started in order, kept running, stopped in the reverse order
stack_stats.py  the live line and the table
"""

from normalizer.up.flow import Options, up

__all__ = ["Options", "up"]
