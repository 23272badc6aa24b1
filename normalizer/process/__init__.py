"""This process and its child processes.

signals             the first signal stops in order, the second exits at once
pause               waits for an event, but no longer than a given time, and before a retry
garbage             makes Python's garbage collector run rarely
screen              prints lines, to a terminal or to a plain stream
progress            prints how far long work is, with its rate and the time left
child               a child process that dies with its parent
slices              normalizes records in slices, so that the event loop runs in between
normalizer_process  normalizes heavy records in the helper process, a child
normalizer_loop     the loop of the helper process: reads records, writes outcomes
become              the script between: drops root's rights, becomes the command
"""
