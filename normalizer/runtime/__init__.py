"""How a process starts, logs, runs children, and ends.

Both programs, `normalizer` and `projector`, use these modules.

exit_codes               has the exit codes of both programs.
program_start            starts either program.
command_line             begins and ends every command of either program.
log_stream               writes log lines without ever blocking the process.
logging_setup            writes log lines, and masks secrets in them.
loop_heartbeat           shows other threads that the event loop runs.
version                  has the version of this program.
signals                  stops on the first signal, and exits at once on the second.
backoff                  waits for an event with a time limit, and computes backoff.
garbage_collection       makes Python's garbage collector run rarely.
screen                   prints lines to a terminal or a plain stream.
progress                 prints the progress of long work, with its rate and the time left.
child                    starts a child process that dies with its parent.
slices                   normalizes records in short slices, so that other tasks can run.
normalizing_helper       normalizes heavy records in the helper process, which is a child.
normalizing_helper_main  is the loop of the helper process, which reads records and writes outcomes.
native_lane              decides whether the native lane reads records before Python does.
child_exec               is the script that runs first in a child, and becomes its command.
"""
