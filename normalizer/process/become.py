"""A script: drop root's rights, ask to die with the parent, become the command.

`preexec_fn` could do that too, but is unsafe beside threads. It imports little: it runs before
every child, and after the change of user Python's own library may be out of reach.
Arguments: parent's pid, death signal, uid, gid (-1: stay), the command with its full path.
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
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a child would inherit
    command = arguments[4:]
    try:
        os.execv(command[0], command)  # noqa: S606 - our own command, no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    become(sys.argv[1:])
