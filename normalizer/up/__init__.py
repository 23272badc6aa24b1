"""Runs the whole stack on this machine, for `normalizer up`.

It starts PostgreSQL, Kafka, the normalizer, the projector's dashboard, and traffic, restarts a part
that dies, and stops all of them in reverse order. Everything is kept in one folder.

stack_run           is the whole run, step by step. It starts the database and the broker.
stack_files         has the folder .noetl/ with its lock, stack.json, and the password file.
stack_programs      starts normalizer, projector, and traffic as child processes.
supervisor          starts processes in order, restarts them, and stops them in reverse order.
native_build_watch  notices a native lane that is built while the stack runs.
call_summary        prints how calls ended, by attempts and status.
service_processes   runs several service processes as one, for `normalizer run --processes`.
"""

from normalizer.up.stack_run import UpOptions, up

__all__ = ["UpOptions", "up"]
