"""Free ports on 127.0.0.1, found and kept.

A port that was free a moment ago may be anybody's when a member binds it, and
again whenever a member is down: a client that keeps dialling a dead port of the
ephemeral range can even end up connected to itself.  So a port stays *bound* by
us, without listening, for as long as the cluster lives.  Linux lets a listener
join such a port when both sides set SO_REUSEADDR (Go does), and gives it to
nobody who asks for any port.  Elsewhere the port is let go when a member needs it,
and a clash shows as "address already in use", upon which others are tried.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

LOOPBACK: Final = "127.0.0.1"
CAN_SHARE: Final = sys.platform == "linux"


class HeldPort:
    """One free port, kept until released."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def make_room(self) -> None:
        """Let a member of ours listen here."""
        if not CAN_SHARE:
            self.release()

    def release(self) -> None:
        """Give the port back; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
