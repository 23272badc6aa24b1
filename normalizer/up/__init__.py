"""`normalizer up`: starts and stops PostgreSQL, Kafka, normalizer, dashboard and traffic.

flow           the whole run on one page
stackfile      .noetl/: one run at a time, stack.json, the password file
servers        starts the database and the broker
programs       normalizer, projector and traffic as child processes
supervisor     starts processes in order, restarts them, stops them in the reverse order
call_table     prints how calls ended, by attempts and status
process_group  several service processes as one, for `normalizer run --processes`
"""

from normalizer.up.flow import Options, up

__all__ = ["Options", "up"]
