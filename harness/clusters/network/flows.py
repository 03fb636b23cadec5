"""Directed links and the flows of bytes over them: the data path of the link proxy.

A *link* is a directed pair of members; a *flow* is one direction of one proxied
connection.  A cut link delivers nothing at all, neither new bytes nor those the
proxy holds already, nor the news that a connection was closed; what arrives
meanwhile is held and delivered, in order, by the heal.  That is what TCP makes
of a lossy network, without its back-off.

Memory is bounded: a flow that holds HOLD_BYTES stops reading, so that the
source feels the pressure as it would from a full send window.

Sockets are used raw, under ``loop.add_reader``: a transport would keep a buffer
of its own and go on sending it over a cut link, and costs twice the time.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from typing import Final

HOLD_BYTES: Final = 1 << 20
"""What one flow may hold before it stops reading; it reads again below half of it."""

READ_BYTES: Final = 64 << 10
"""The most that is read, and so shaped as one piece, at once."""

SLOW_PIECE_S: Final = 0.02
"""On a link with a rate, pieces are so small that one takes about this long."""

_BUFFER = bytearray(READ_BYTES)
_VIEW = memoryview(_BUFFER)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Link:
    """One directed link: its state, its counters, and the flows that cross it now."""

    __slots__ = (
        "_delay_s",
        "_free_at_s",
        "_jitter_s",
        "_rate_bytes_s",
        "delivered_bytes",
        "flows",
        "is_cut",
        "is_plain",
        "offered_bytes",
        "opened",
        "read_bytes",
    )

    def __init__(self) -> None:
        self.flows: dict[Flow, None] = {}
        self.offered_bytes = 0
        self.delivered_bytes = 0
        self.opened = asyncio.Event()
        self._make_plain()

    def _make_plain(self) -> None:
        self.is_cut = False
        self.opened.set()
        self.shape(delay_s=0.0, jitter_s=0.0, rate_bytes_s=0.0)

    def cut(self) -> None:
        """Deliver nothing from now on."""
        self.is_cut = True
        self.is_plain = False
        self.opened.clear()
        for flow in self.flows:
            flow.hold()

    def shape(self, *, delay_s: float, jitter_s: float, rate_bytes_s: float) -> None:
        """Delay what is read from now on by ``delay_s`` +- ``jitter_s``, in order; pass at most the rate (0: any)."""
        self._delay_s, self._jitter_s, self._rate_bytes_s = delay_s, jitter_s, rate_bytes_s
        self._free_at_s = 0.0
        self.is_plain = not (self.is_cut or delay_s or jitter_s or rate_bytes_s)
        self.read_bytes = min(READ_BYTES, max(512, int(rate_bytes_s * SLOW_PIECE_S))) if rate_bytes_s else READ_BYTES

    def heal(self) -> None:
        """Deliver everything that is held, and whatever comes, at once."""
        self._make_plain()
        for flow in list(self.flows):
            flow.release()

    def due_s(self, now_s: float, size_bytes: int) -> float:
        """When a piece that was read now is to be delivered: after its transmission, then its propagation."""
        sent_s = now_s
        if self._rate_bytes_s:
            sent_s = self._free_at_s = max(now_s, self._free_at_s) + size_bytes / self._rate_bytes_s
        return sent_s + self.latency_s()

    def latency_s(self) -> float:
        """One draw of the propagation delay."""
        if not self._jitter_s:
            return self._delay_s
        return max(0.0, self._delay_s + random.uniform(-self._jitter_s, self._jitter_s))


class Flow:
    """What one socket sends to another over a link; an empty piece in the queue is the end of the stream."""

    __slots__ = (
        "_is_broken",
        "_is_reading",
        "_is_writing",
        "_last_due_s",
        "_link",
        "_loop",
        "_queue",
        "_reader",
        "_reset",
        "_timer",
        "_writer",
        "connection",
        "held_bytes",
        "is_done",
    )

    def __init__(self, connection: Connection, link: Link, reader: socket.socket, writer: socket.socket) -> None:
        self.connection = connection
        self.is_done = False
        self.held_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._reader = reader
        self._writer = writer
        self._queue: deque[tuple[float, bytes]] = deque()
        self._last_due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_reading = False
        self._is_writing = False
        self._is_broken = False
        self._reset = False

    def start(self) -> None:
        """Begin to read."""
        self._link.flows[self] = None
        self._read(True)

    def hold(self) -> None:
        """Stop delivering; the link was cut."""
        self._write(False)
        self._cancel_timer()

    def release(self) -> None:
        """Deliver what is held without further delay; the link was healed."""
        self._queue = deque((0.0, piece) for _, piece in self._queue)
        self._last_due_s = 0.0
        self._cancel_timer()
        self._deliver()

    def detach(self) -> None:
        """Let go of the loop and the link; the sockets are about to be closed."""
        self.is_done = True
        self._read(False)
        self._write(False)
        self._cancel_timer()
        self._queue.clear()
        self._link.flows.pop(self, None)

    def end(self, *, reset: bool) -> None:
        """Take it that the source said its last: deliver what is held, then the end of the stream."""
        self._read(False)
        self._reset = self._reset or reset
        self._enqueue(b"")

    def _on_readable(self) -> None:
        link = self._link
        try:
            size = self._reader.recv_into(_BUFFER, link.read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = -1
        if size <= 0:
            self._on_source_end(reset=size < 0)
            return
        link.offered_bytes += size
        if self._is_broken:
            return
        sent = 0
        if link.is_plain and not self._queue:
            sent = self._send(_VIEW[:size])
            if sent == size or self._is_broken:
                return
        self._enqueue(bytes(_VIEW[sent:size]))

    def _on_source_end(self, *, reset: bool) -> None:
        if self._is_broken:  # both ends are gone
            self.connection.close(reset=True)
        else:
            self.end(reset=reset)

    def _enqueue(self, piece: bytes) -> None:
        now_s = self._loop.time()
        due_s = 0.0 if self._link.is_plain else self._link.due_s(now_s, len(piece))
        self._last_due_s = max(self._last_due_s, due_s)
        self._queue.append((self._last_due_s, piece))
        self.held_bytes += len(piece)
        if self.held_bytes >= HOLD_BYTES:
            self._read(False)
        self._deliver()

    def _deliver(self) -> None:
        """Send whatever is due, as far as the destination takes it."""
        while self._queue and not (self._link.is_cut or self._is_writing or self._timer):
            due_s, piece = self._queue[0]
            if due_s > self._loop.time():
                self._timer = self._loop.call_at(due_s, self._on_timer)
                return
            if not piece:
                self._deliver_end()
                return
            sent = self._send(memoryview(piece))
            if self._is_broken:
                return
            self._drop(sent)

    def _drop(self, sent: int) -> None:
        due_s, piece = self._queue.popleft()
        if sent < len(piece):
            self._queue.appendleft((due_s, piece[sent:]))
        self.held_bytes -= sent
        if not self._is_reading and self.held_bytes < HOLD_BYTES // 2 and (not self._queue or self._queue[-1][1]):
            self._read(True)

    def _send(self, piece: memoryview) -> int:
        """How many bytes the destination took; waits for room when it is full, gives up when it is gone."""
        try:
            sent = self._writer.send(piece)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._break()
            return 0
        self._link.delivered_bytes += sent
        if sent < len(piece):
            self._write(True)
        return sent

    def _break(self) -> None:
        """The destination is gone: whatever the source still says is lost, and it hears so over the way back."""
        self._is_broken = True
        self._queue.clear()
        self.held_bytes = 0
        self._write(False)
        self._read(True)
        self.connection.report_broken(self)

    def _deliver_end(self) -> None:
        self._queue.clear()
        if self._reset:
            self.connection.close(reset=True)
            return
        self.is_done = True
        try:
            self._writer.shutdown(socket.SHUT_WR)
        except OSError:
            self.connection.close(reset=True)
            return
        self.connection.close_when_done()

    def _on_timer(self) -> None:
        self._timer = None
        self._deliver()

    def _on_writable(self) -> None:
        self._write(False)
        self._deliver()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self, wanted: bool) -> None:
        if wanted != self._is_reading:
            self._is_reading = wanted
            if wanted:
                self._loop.add_reader(self._reader, self._on_readable)
            else:
                self._loop.remove_reader(self._reader)

    def _write(self, wanted: bool) -> None:
        if wanted != self._is_writing:
            self._is_writing = wanted
            if wanted:
                self._loop.add_writer(self._writer, self._on_writable)
            else:
                self._loop.remove_writer(self._writer)


class Connection:
    """One proxied connection: its two sockets and the flow each way."""

    def __init__(self, near: socket.socket, far: socket.socket, out: Link, back: Link) -> None:
        self._sockets = (near, far)
        self._out = Flow(self, out, near, far)
        self._back = Flow(self, back, far, near)
        self._is_closed = False

    def start(self) -> None:
        """Begin to pass bytes both ways."""
        self._out.start()
        self._back.start()

    def report_broken(self, flow: Flow) -> None:
        """A flow lost its destination; its source is told over the other one."""
        other = self._back if flow is self._out else self._out
        if other.is_done:
            self.close(reset=True)
        else:
            other.end(reset=True)

    def close_when_done(self) -> None:
        """Close once both ways have delivered their end."""
        if self._out.is_done and self._back.is_done:
            self.close(reset=False)

    def close(self, *, reset: bool) -> None:
        """Close both sockets; with ``reset`` their peers see an error and not an end."""
        if self._is_closed:
            return
        self._is_closed = True
        self._out.detach()
        self._back.detach()
        for end in self._sockets:
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()
