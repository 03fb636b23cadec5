"""Children that cannot outlive their parent, whatever ends it (SIGKILL included).

A script of its own that imports next to nothing, started as a program:

``tether.py PARENT PIPE NAMESPACES COMMAND...``
    (Linux) enters the namespaces (descriptors joined by commas, or nothing),
    asks the kernel to SIGKILL this process when the thread that started it is
    gone (PR_SET_PDEATHSIG; a stopped process dies of it as well), then becomes
    COMMAND, which keeps that wish over ``exec``.  Namespaces come first: to
    enter some would undo the wish.  A parent that died before the wish was made
    is noticed by its pid; one that is to know when it is made sees its end of
    the pipe (descriptor PIPE is ours) close.

``tether.py --watch``
    (elsewhere) reads ``+PID`` and ``-PID`` lines from stdin and SIGKILLs every
    pid still listed when stdin ends, which it does when the parent dies.

The launcher is there because the harness has threads (gRPC's), and Python code
between fork and exec of a threaded process may deadlock.  Since the wish follows
the spawning *thread*, children are spawned from the event loop's own thread,
never from an executor's.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(parent: int, pipe: int, namespaces: list[int], command: list[str]) -> None:
    """Replace this process by the command, bound to the parent's life; the pipe closes once that is so."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for namespace in namespaces:
        if libc.setns(namespace, 0) != 0:
            sys.exit(f"cannot enter a namespace for {command[0]}: {os.strerror(ctypes.get_errno())}")
        os.close(namespace)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"cannot bind {command[0]} to its parent's life: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(f"the parent {parent} is gone already")
    os.set_inheritable(pipe, False)
    try:
        os.execv(command[0], command)
    except OSError as failure:
        sys.exit(f"cannot run {command[0]}: {failure.strerror}")


def watch() -> None:
    """SIGKILL whoever is still listed when stdin ends."""
    listed: dict[int, None] = {}
    for line in sys.stdin:
        if line.startswith("+"):
            listed[int(line)] = None
        else:
            listed.pop(-int(line), None)
    for pid in listed:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue  # it ended with its parent


if __name__ == "__main__":
    if sys.argv[1] == "--watch":
        watch()
    else:
        become(int(sys.argv[1]), int(sys.argv[2]), [int(name) for name in sys.argv[3].split(",") if name], sys.argv[4:])
