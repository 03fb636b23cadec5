"""What members' own answers tell of their clocks, asked over HTTP on the client port; not how they were set.

The wall's: every answer has a ``Date``, the second that the member's wall clock
shows, so that one answer tells the offset to a second.  Answers on both sides of
the moment at which the second changes tell it to a few hundredths.

The monotonic one's: a watch asked for with ``Grpc-Timeout`` is ended by the
member when so much of *its* time is over (etcd's JSON gateway, which has the
timeout in the member itself).  When it should have lasted a second and lasted
half of one, the clock gained half a second.  One watch after another, of a key
that nobody writes, adds up to what was gained since the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from calendar import timegm
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import parsedate
from typing import Final

ANSWER_TIMEOUT_S: Final = 1.0
LINK_S: Final = 1.0
"""How much of its own time a member is asked to let pass, again and again."""

SLOWEST: Final = 4.0
"""A clock that shows so many times less is not measured: its watch is given up."""

_WALL_BOUND_S: Final = 1.3
_POLL_S: Final = 0.025
_GLANCE_S: Final = 0.1
"""A clock that jumps to and fro must not be asked at the same moment of each second alone."""

_SHARP_NS: Final = 60_000_000
_JUMP_NS: Final = 600_000_000
_NS: Final = 1_000_000_000
_UNSEEN_KEY: Final = "AHNwbGl0dm90ZSBjbG9jaw=="  # "\0splitvote clock"

Address = Callable[[], str]
"""Where the member serves clients at present, "host:port"."""


class SilentError(Exception):
    """A member did not answer, or not as etcd does; nothing that leaves the folder."""


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def _spoken(what: str) -> AsyncIterator[None]:
    """Turn whatever goes wrong with a connection into SilentError."""
    try:
        yield
    except (OSError, EOFError, ValueError, TimeoutError) as failure:
        raise SilentError(f"{what}: {type(failure).__name__} {failure}") from None


async def _connect(address: str) -> Streams:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Streams]:
    streams = await _connect(address)
    try:
        yield streams
    finally:
        streams[1].close()


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers of an answer; raises ValueError for another status than 200."""
    status = (await reader.readline()).decode("latin-1")
    if not status:
        raise EOFError("the connection was closed")
    if " 200 " not in status:
        raise ValueError(status.strip())
    headers = {}
    while line := (await reader.readline()).strip().decode("latin-1"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return headers


class WallWatch:
    """One member's wall clock; may be read by several at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._known_ns: int | None = None

    async def read(self) -> tuple[float, float]:
        """How far it is ahead of ours, and give or take how much (ms); raises SilentError.

        Takes up to 1.3 s.  A clock that is set meanwhile is told to the second.
        """
        address = self._address()
        async with _spoken(address), asyncio.timeout(_WALL_BOUND_S + ANSWER_TIMEOUT_S), _connected(address) as streams:
            low, high = await self._located(streams)
        self._known_ns = (low + high) // 2 if high - low <= _SHARP_NS else None
        return (low + high) / 2e6, (high - low) / 2e6

    async def _located(self, streams: Streams) -> tuple[int, int]:
        """Bounds of the offset; as wide as one answer leaves them where it was seen to jump."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _WALL_BOUND_S
        low, high = await _bounds_ns(streams)
        change_s = loop.time() + self._until_change_s(low, high)
        while high - low > _SHARP_NS and loop.time() < deadline_s:
            left_s = change_s - loop.time()
            await asyncio.sleep(min(_GLANCE_S, left_s) if left_s > 0 else _POLL_S)
            lower, upper = await _bounds_ns(streams)
            apart_ns = max(low, lower) - min(high, upper)
            if apart_ns > _JUMP_NS:
                return lower, upper
            # A clock that drifts may have moved a little in between: what it shows now counts.
            low, high = (max(low, lower), min(high, upper)) if apart_ns < 0 else (lower, upper)
        return low, high

    def _until_change_s(self, low: int, high: int) -> float:
        """How long until its second is about to change, as far as is known: until then few questions will do."""
        if self._known_ns is None or not low < self._known_ns < high:
            return 0.0
        return (_NS - (time.time_ns() + self._known_ns) % _NS) / 1e9 - _POLL_S


async def _bounds_ns(streams: Streams) -> tuple[int, int]:
    """The least and the most that the offset of a member's wall clock can be, by one answer."""
    reader, writer = streams
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        sent_ns = time.time_ns()
        writer.write(b"GET /version HTTP/1.1\r\nHost: member\r\n\r\n")
        headers = await _headers(reader)
        received_ns = time.time_ns()
        await reader.readexactly(int(headers.get("content-length", "0")))
    told = parsedate(headers.get("date", ""))
    if told is None:
        raise ValueError("an answer without a date")
    shown_ns = timegm(told) * _NS
    return shown_ns - received_ns, shown_ns + _NS - sent_ns


@dataclass(frozen=True, slots=True)
class _Timer:
    """A watch that the member ends when ``nominal_s`` of its time are over; it began between two of ours."""

    streams: Streams
    nominal_s: float
    sent_s: float
    begun_s: float

    async def gained_s(self) -> float:
        """How much less than nominal it lasted."""
        line = await self.streams[0].readline()
        if not line:
            raise EOFError("the watch was cut off")
        return self.nominal_s - (asyncio.get_running_loop().time() - self.begun_s)


@dataclass(slots=True)
class Gain:
    """What a member's monotonic clock has gained, give or take ``error_s``."""

    gained_s: float = 0.0
    error_s: float = 0.0


class MonotonicWatch:
    """One member's monotonic clock, followed by a task from ``restart`` to ``close``, or until the member is silent."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._following: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._restarting = asyncio.Lock()
        self._gain = Gain()

    @property
    def is_followed(self) -> bool:
        """Whether it is measured at present."""
        return self._following is not None and not self._following.done()

    async def restart(self, from_s: Callable[[], float], *, jump_s: float = 0.0) -> None:
        """Count anew, from what ``from_s`` tells once a watch is open that outlasts a jump by so much.

        Raises SilentError.
        """
        async with self._restarting:
            self.close()
            timer = await self._opened(LINK_S + jump_s)
            self._gain = Gain(from_s())
            follow = self._follow(timer, self._gain)
            self._following = asyncio.create_task(follow, name=f"splitvote clock of {self._address()}")

    async def ensure(self, from_s: Callable[[], float]) -> None:
        """Count anew if it is not being counted; raises SilentError."""
        async with self._restarting:
            is_followed = self.is_followed
        if not is_followed:
            await self.restart(from_s)

    async def read(self) -> Gain:
        """What it has gained by some moment of this call; raises SilentError."""
        if self._following is None:
            raise SilentError(f"{self._address()} is not being followed")
        self._news.clear()
        told = asyncio.create_task(self._news.wait())
        try:
            async with _spoken(self._address()), asyncio.timeout(SLOWEST * LINK_S + ANSWER_TIMEOUT_S):
                await told
        finally:
            told.cancel()
        if not self.is_followed:
            raise SilentError(f"{self._address()} was silent")
        return Gain(self._gain.gained_s, self._gain.error_s)

    async def _follow(self, timer: _Timer, gain: Gain) -> None:
        try:
            while True:
                try:
                    async with _spoken(self._address()), asyncio.timeout(SLOWEST * timer.nominal_s):
                        gained_s = await timer.gained_s()
                finally:
                    timer.streams[1].close()
                gain.gained_s += gained_s
                gain.error_s += timer.begun_s - timer.sent_s
                self._news.set()
                timer = await self._opened(LINK_S)
        except SilentError:
            return
        finally:
            self._news.set()

    async def _opened(self, nominal_s: float) -> _Timer:
        """Ask for a watch, and see it begin."""
        body = json.dumps({"create_request": {"key": _UNSEEN_KEY}})
        request = (
            f"POST /v3/watch HTTP/1.1\r\nHost: member\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
            f"Grpc-Timeout: {round(nominal_s * 1e3)}m\r\n\r\n{body}"
        )
        loop = asyncio.get_running_loop()
        async with _spoken(self._address()), asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await _connect(self._address())
            try:
                sent_s = loop.time()
                writer.write(request.encode())
                await _headers(reader)
                size = int(await reader.readline(), 16)
                if b'"created":true' not in await reader.readexactly(size + 2):
                    raise ValueError("no watch was created")
            except BaseException:
                writer.close()
                raise
            return _Timer((reader, writer), nominal_s, sent_s, loop.time())

    def close(self) -> None:
        """Follow it no more."""
        if self._following is not None:
            self._following.cancel()
            self._following = None
