"""Drops root's rights, requests a signal for the parent's death, and becomes the command.

A script, because `preexec_fn` is unsafe with threads. It imports little: it runs before every
child, and after the change of user Python's own library may be unreadable.
Arguments: parent's pid, death signal, uid, gid (-1: keep), the command with its full path.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become(arguments: list[str]) -> None:
    """Does not return. Rights are dropped first: a change of user clears the death signal."""
    parent, death_signal, uid, gid = map(int, arguments[:4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent died before the kernel knew of the death signal
        os._exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a child would inherit that Python ignores it
    command = arguments[4:]
    try:
        os.execv(command[0], command)  # noqa: S606 - this project's own command, no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    become(sys.argv[1:])
