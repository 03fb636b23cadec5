"""The disk under a member's data on a node, as a program there: ``disks.server`` with its requests on stdin and stdout.

It mounts over DATA, in a mount namespace of its own that the member enters, and
ends when stdin does, or by its pidfile in FOLDER, which is as ``remote_daemon``
has it::

    FOLDER/pid   FOLDER/disk.log   FOLDER/aside/

The server wants a socket, of which connections to nodes have none to give: a
child passes on what goes to and fro.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.disks import mounts, server
from splitvote.harness.clusters.remote.node_agent import WORKS, take_over

PROBE_FILE: Final = ".disk"
"""What the disk is tried with, in the data; a name that etcd has no use for."""

_PIECE_BYTES: Final = 1 << 16


def probe() -> list[str]:
    """What can be done here, tried out; leaves this process in a mount namespace of its own."""
    return [f"disk={_reason_against() or WORKS}"]


def _reason_against() -> str | None:
    if shutil.which("nsenter") is None:
        return "it takes nsenter (util-linux) on the nodes"
    found = server.try_out(mounts.AS_ROOT)
    if found.get("as") == mounts.AS_ROOT:
        return None
    why = found.get("problem", "root may not mount")
    return f"it takes /dev/fuse and SYS_ADMIN on the nodes (docker-compose.disk.yml: `splitvote up --with disk`): {why}"


def _pass_on(control: socket.socket) -> None:
    """Between stdin and stdout, and the server, until one of them ends; then both do."""
    while True:
        for ready in select.select([0, control.fileno()], [], [])[0]:
            piece = os.read(ready, _PIECE_BYTES)
            if not piece:
                return
            if ready == 0:
                control.sendall(piece)
            else:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()


def main(folder: str, data: str) -> None:
    """See the module."""
    take_over(Path(folder))
    aside = Path(folder) / "aside"
    aside.mkdir(exist_ok=True)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        with contextlib.suppress(OSError):  # whoever it is for is gone
            _pass_on(theirs)
        os._exit(0)
    theirs.close()
    log = os.open(Path(folder) / "disk.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, place in ((ours.detach(), 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    server.main([data, str(aside), PROBE_FILE, mounts.AS_ROOT])
