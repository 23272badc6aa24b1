"""How a process starts, logs, runs children, and ends.

exit_codes          the exit codes of both programs
program_start       how either program starts
command_line        how every command of either program begins and ends
log_stream          writes log lines without ever blocking the process
telemetry           log lines, masking of secrets, and counters
version             the version of this program
signals             stops on the first signal, and exits at once on the second
pause               waits for an event with a time limit, and computes backoff
garbage             makes Python's garbage collector run rarely
screen              prints lines to a terminal or a plain stream
progress            prints the progress of long work, with its rate and the time left
child               a child process that dies with its parent
slices              normalizes records a few milliseconds at a time, so that other tasks can run
normalizer_process  normalizes heavy records in the helper process, which is a child
normalizer_loop     the loop of the helper process, which reads records and writes outcomes
native_lane         decides whether the native lane reads records before Python does
become              the script that starts a child: drops root's rights, then becomes the command
"""
