"""Mounting a FUSE file system where only this process, and whoever enters its namespace, sees it.

The mount is made in a mount namespace of our own, and is gone with the last
process in there: nothing is ever left of it.  Root makes such a namespace as it
is; an ordinary user in a user namespace of its own, where it is root
(user_namespaces(7)).  Threads: none, since the kernel lets only a process
without any make one.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

DEVICE: Final = "/dev/fuse"
TYPE: Final = "fuse.splitvote"
AS_ROOT, AS_USER = "root", "user"

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 1 << 1, 1 << 2, 1 << 14, 1 << 18
_MNT_DETACH: Final = 2
_PR_SET_DUMPABLE: Final = 4


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(status: int) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def enter_namespace(kind: str | None = None) -> str:
    """Go into a mount namespace of our own, as ``kind`` says (None: as root if we may): which it was.

    Raises OSError, saying what is missing.
    """
    libc = _libc()
    as_root = kind != AS_USER and libc.unshare(_CLONE_NEWNS) == 0
    if not as_root:
        uid, gid = os.geteuid(), os.getegid()
        try:
            _check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError as failure:
            words = f"no mount namespace ({failure.strerror}): run as root, or allow user namespaces"
            raise OSError(failure.errno, words) from None
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    # The harness opens our namespaces, which a change of credentials may have made unreadable.
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    return AS_ROOT if as_root else AS_USER


def mount(folder: str) -> int:
    """Mount over a folder: the descriptor that the kernel's requests come through.  Raises OSError."""
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    except OSError as failure:
        how = "load the module fuse" if not os.path.exists(DEVICE) else "let this user open it, or run as root"
        raise OSError(failure.errno, f"{DEVICE}: {failure.strerror}; {how}") from None
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},default_permissions"
    try:
        _check(
            _libc().mount(b"splitvote", os.fsencode(folder), TYPE.encode(), _MS_NOSUID | _MS_NODEV, options.encode())
        )
    except OSError as failure:
        os.close(device)
        raise OSError(failure.errno, f"no FUSE mount: {failure.strerror}") from None
    with suppress(OSError):
        os.set_inheritable(device, False)
    return device


def unmount(folder: str) -> None:
    """Take the mount off a folder again; raises OSError."""
    _check(_libc().umount2(os.fsencode(folder), _MNT_DETACH))
