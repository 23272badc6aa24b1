"""Prepares a new child process, and then becomes the command that the child is to run.

`ChildProcess.start` runs this script in each new child. The script drops root's rights if a user is
given, asks the kernel for a signal when the parent dies, and then replaces itself by the command.
`subprocess` could do all this with `preexec_fn`, but that may deadlock in a process with threads.
The script imports little, because it delays the start of every child, and because Python's own
library may be unreadable after the change of user.

Arguments: the parent's pid, the death signal, uid, gid (-1 keeps them), and the command with its
full path.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _become_command(arguments: list[str]) -> None:
    """Become the command, so never return. First drop rights, which resets the death signal."""
    parent, death_signal, uid, gid = map(int, arguments[:4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent died before the kernel knew about the death signal
        os._exit(1)
    # Python ignores SIGPIPE, and the child would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    command = arguments[4:]
    try:
        os.execv(command[0], command)  # noqa: S606 - this project's own command, no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    _become_command(sys.argv[1:])
