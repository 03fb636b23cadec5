"""The way of clients into a network namespace: a process inside it that serves listeners made outside.

Run as ``python -m splitvote.harness.clusters.network.gate DESCRIPTOR=HOST:PORT ...``.
A listening socket stays in the namespace it was made in, whoever holds it, and
what it accepts does too; a connection belongs to the namespace of the process
that opens it.  So a process *inside* that holds listeners of the *outside* is a
way between the two that needs no interface, no route and no privilege.

It is no party to what passes: bytes and ends of streams go through as they
come.  A client whose member cannot be reached is reset, as the member's own
machine would have done; one that gives up is forgotten.  Memory is bounded: as
much as one read, each way; then the sender is left to its own full buffers.

Plain epoll, since all that clients say passes here: an asyncio transport costs
three times as much.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

READ_BYTES: Final = 64 << 10
GIVE_UP_MS: Final = 5_000
"""How long a member may leave data unacknowledged (TCP_USER_TIMEOUT): etcd's peers wait as long for each other."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_READ: Final = select.EPOLLIN | select.EPOLLRDHUP


class End:
    """One socket of a connection; ``held`` was read from the other end and is still to be written here."""

    __slots__ = ("events", "has_ended", "held", "is_connected", "other", "owes_end", "socket")

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        self.socket = sock
        self.is_connected = is_connected
        self.has_ended = False  # nothing more will be read from it
        self.owes_end = False  # its other end has ended, and it was not told yet
        self.held: bytes | memoryview = b""
        self.events = 0
        self.other = self


class Gate:
    """Listeners, each with the address of its member, and the connections through them."""

    def __init__(self, doors: Sequence[tuple[socket.socket, tuple[str, int]]]) -> None:
        self._epoll = select.epoll()
        self._doors = {listener.fileno(): (listener, address) for listener, address in doors}
        self._ends: dict[int, End] = {}
        for number in self._doors:
            self._epoll.register(number, select.EPOLLIN)

    def serve(self) -> None:
        """Serve for ever."""
        while True:
            round_ = self._epoll.poll()
            for number, happened in round_:
                if (end := self._ends.get(number)) is not None:  # else closed earlier in this round
                    self._attend(end, happened)
            # Only then, since what is new may get the number of what was closed.
            for number, _ in round_:
                if number in self._doors:
                    self._let_in(*self._doors[number])

    def _let_in(self, listener: socket.socket, address: tuple[str, int]) -> None:
        try:
            near, _ = listener.accept()
        except OSError:  # gave up before it was accepted, or we are out of descriptors for now
            return
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
        client, member = End(near, is_connected=True), End(far, is_connected=False)
        client.other, member.other = member, client
        for end in (client, member):
            self._ends[end.socket.fileno()] = end
        if far.connect_ex(address) not in (0, errno.EINPROGRESS):
            self._abandon(client)
            return
        for end in (client, member):
            self._watch(end)

    def _attend(self, end: End, happened: int) -> None:
        try:
            if happened & select.EPOLLOUT:
                self._let_out(end)
            if happened & select.EPOLLERR:
                raise ConnectionResetError
            if happened & (select.EPOLLIN | select.EPOLLHUP) and not end.has_ended:
                if not end.other.held:
                    self._pass_on(end)
            elif happened & select.EPOLLRDHUP and not end.other.is_connected:
                raise ConnectionAbortedError  # the client gave up before there was a connection
        except OSError:
            self._abandon(end)
            return
        if end.has_ended and end.other.has_ended and not (end.held or end.other.held):
            self._close(end)
            return
        self._watch(end)
        self._watch(end.other)

    def _let_out(self, end: End) -> None:
        """Write what waited for room, or learn that the connection stands."""
        if not end.is_connected:
            if code := end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, "not connected")
            end.is_connected = True
        if end.held:
            end.held = end.held[_send(end.socket, end.held) :]
        self._tell_end(end)

    def _pass_on(self, end: End) -> None:
        """Read from one end, write to the other."""
        try:
            data = end.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            end.has_ended = end.other.owes_end = True
            self._tell_end(end.other)
        elif (sent := _send(end.other.socket, data)) < len(data):
            end.other.held = memoryview(data)[sent:]

    def _tell_end(self, end: End) -> None:
        if end.owes_end and not end.held:
            end.owes_end = False
            end.socket.shutdown(socket.SHUT_WR)

    def _watch(self, end: End) -> None:
        """Ask for what can be dealt with: reading only what the other end can take.

        An end of which nothing is wanted is not asked about at all: epoll would
        go on to tell that it has hung up, while there is still to be read from it.
        """
        if not end.is_connected:
            events = select.EPOLLOUT
        else:
            events = select.EPOLLOUT if end.held else 0
            if not end.other.is_connected:
                events |= select.EPOLLRDHUP
            elif not end.other.held and not end.has_ended:
                events |= _READ
        number, before, end.events = end.socket.fileno(), end.events, events
        if not before and events:
            self._epoll.register(number, events)
        elif before and not events:
            self._epoll.unregister(number)
        elif before != events:
            self._epoll.modify(number, events)

    def _abandon(self, end: End) -> None:
        """Reset both ends: whoever waits is to hear at once."""
        for each in (end, end.other):
            with suppress(OSError):
                each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._close(end)

    def _close(self, end: End) -> None:
        for each in (end, end.other):
            self._ends.pop(each.socket.fileno(), None)
            each.socket.close()


def _send(sock: socket.socket, data: bytes | memoryview) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    doors = []
    for argument in arguments:
        number, _, address = argument.partition("=")
        host, _, port = address.rpartition(":")
        listener = socket.socket(fileno=int(number))
        listener.setblocking(False)
        doors.append((listener, (host, int(port))))
    with suppress(KeyboardInterrupt):
        Gate(doors).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
