"""This process and its children.

signals         the first asks for an end, the second ends at once
garbage         Python's collector, seldom at work
screen          where lines go: a terminal, or not
child           a child process that dies with its parent
slices          records normalized without holding the loop for long
normalizer_process  heavy records normalized in one child process
normalizer_loop  the child process: reads records, writes outcomes
become          the step between: drops root's rights, becomes the command
"""
