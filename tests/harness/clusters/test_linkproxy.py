"""The link proxy, as members see it: SOCKS5 in front, plain sockets behind, links cut and shaped between."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from splitvote.harness.cluster import LinkCounter, LinkShape, ProcessState
from splitvote.harness.clusters.network.flows import HOLD_BYTES
from splitvote.harness.clusters.network.links import ProxyLinks
from splitvote.harness.clusters.processes import Children, wait_state
from splitvote.harness.errors import NemesisError

OUT = ("n1", "n2")
BACK = ("n2", "n1")
BOUND_S = 180.0
QUIET_S = 0.3
"""How long nothing may arrive before we believe that nothing does."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Stage:
    """A proxy between two members, n2 being a server whose connections the test holds."""

    links: ProxyLinks
    proxy_port: int = 0
    accepted: asyncio.Queue[Streams] = field(default_factory=asyncio.Queue)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def ask_for(self, address: str) -> Streams:
        """Ask the proxy, as n1, for a connection; its answer is still to be read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy_port)
        self.writers.append(writer)
        target = ipaddress.ip_address(address)
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"
        kind = b"\x04" if target.version == 6 else b"\x01"
        writer.write(b"\x05\x01\x00" + kind + target.packed + struct.pack(">H", 2380))
        return reader, writer

    async def dial(self, address: str = "fe80::2") -> Streams:
        """Connect from n1 through the proxy; ConnectionRefusedError with the proxy's reason."""
        reader, writer = await self.ask_for(address)
        reply = await reader.readexactly(10)
        if reply[1]:
            raise ConnectionRefusedError(reply[1])
        return reader, writer

    async def connect(self) -> tuple[Streams, Streams]:
        """One connection, as (n1's end, n2's end)."""
        return await self.dial(), await self.accepted.get()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection as n2."""
        self.writers.append(writer)
        self.accepted.put_nowait((reader, writer))

    def close(self) -> None:
        """Close this side's ends of every connection."""
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def a_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    children = Children()
    links = ProxyLinks(("n1", "n2"), children)
    stage = Stage(links)
    server = await asyncio.start_server(stage.accept, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        ports = await links.open({"n1": ("fe80::1", 1), "n2": ("fe80::2", port)}, tmp_path / "linkproxy.log")
        stage.proxy_port = ports["n1"]
        yield stage
    finally:
        stage.close()
        await links.close()
        children.close()
        server.close()
        await server.wait_closed()
    assert (tmp_path / "linkproxy.log").read_text() == "", "the proxy complains of nothing"


@pytest.fixture
def on_stage(tmp_path: Path) -> Callable[[Callable[[Stage], Awaitable[None]]], None]:
    """Plays a scene on a stage of its own, within a bound."""

    def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(BOUND_S), a_stage(tmp_path) as stage:
                await scene(stage)

        asyncio.run(bounded())

    return play


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(QUIET_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


def test_bytes_pass_both_ways_and_are_counted(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        near[1].write(b"ping!")
        assert await far[0].readexactly(5) == b"ping!"
        far[1].write(b"pong")
        assert await near[0].readexactly(4) == b"pong"
        counters = await stage.links.counters()
        assert (counters[OUT].offered_bytes, counters[OUT].delivered_bytes) == (5, 5)
        assert (counters[BACK].offered_bytes, counters[BACK].delivered_bytes) == (4, 4)

    on_stage(scene)


def test_only_other_members_can_be_dialled(on_stage) -> None:
    """Neither a stranger, nor the source itself, nor the machine's own addresses."""

    async def scene(stage: Stage) -> None:
        for address in ("fe80::7", "fe80::1", "127.0.0.1", "::1"):
            with pytest.raises(ConnectionRefusedError, match="2"):
                await stage.dial(address)

    on_stage(scene)


def test_a_member_that_does_not_listen_refuses(tmp_path: Path) -> None:
    async def scene() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            children = Children()
            links = ProxyLinks(("n1", "n2"), children)
            places = {"n1": ("fe80::1", 1), "n2": ("fe80::2", nobody.getsockname()[1])}
            stage = Stage(links)
            try:
                stage.proxy_port = (await links.open(places, tmp_path / "log"))["n1"]
                with pytest.raises(ConnectionRefusedError, match="5"):
                    await stage.dial()
            finally:
                stage.close()
                await links.close()
                children.close()

    asyncio.run(scene())


def test_a_cut_holds_one_direction_and_the_heal_delivers_it(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        await stage.links.cut([OUT])
        await stage.links.cut([OUT])
        near[1].write(b"held")
        assert await hears_nothing(far[0])
        counters = await stage.links.counters()
        assert (counters[OUT].offered_bytes, counters[OUT].delivered_bytes) == (4, 0)
        far[1].write(b"the other way is open")
        assert await near[0].readexactly(21) == b"the other way is open"
        await stage.links.heal([OUT])
        await stage.links.heal()
        assert await far[0].readexactly(4) == b"held"

    on_stage(scene)


def test_a_cut_holds_what_the_proxy_had_buffered(on_stage) -> None:
    """The destination does not read, so that bytes are inside the proxy when the link is cut."""

    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        data = bytes(range(256)) * (64 << 10)
        near[1].write(data)
        await _settled(stage, lambda counter: counter.offered_bytes > counter.delivered_bytes)
        await stage.links.cut([OUT])
        delivered_bytes = (await stage.links.counters())[OUT].delivered_bytes
        received = await far[0].readexactly(delivered_bytes)
        assert await hears_nothing(far[0])
        assert (await stage.links.counters())[OUT].delivered_bytes == delivered_bytes
        await stage.links.heal([OUT])
        received += await far[0].readexactly(len(data) - delivered_bytes)
        assert received == data

    on_stage(scene)


async def _settled(stage: Stage, holds: Callable[[LinkCounter], bool]) -> LinkCounter:
    """The counters of OUT, once this holds of them and they have stopped to move."""
    before = None
    while (now := (await stage.links.counters())[OUT]) != before or not holds(now):
        before = now
        await asyncio.sleep(0.1)
    return now


def test_a_cut_link_holds_a_bounded_amount(on_stage) -> None:
    """The source is stopped by its own send buffer, however much it has to say."""

    async def scene(stage: Stage) -> None:
        near, _ = await stage.connect()
        await stage.links.cut([OUT])
        near[1].write(bytes(16 * HOLD_BYTES))
        held = await _settled(stage, lambda counter: counter.offered_bytes >= HOLD_BYTES)
        assert held.offered_bytes < 2 * HOLD_BYTES
        assert held.delivered_bytes == 0
        near[1].transport.abort()

    on_stage(scene)


def test_a_connection_opens_only_when_both_ways_are_healthy(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        for pair in (OUT, BACK):
            await stage.links.cut([pair])
            dialling = asyncio.create_task(stage.dial())
            done, _ = await asyncio.wait([dialling], timeout=QUIET_S)
            assert not done
            assert stage.accepted.empty()
            await stage.links.heal([pair])
            await dialling
            await stage.accepted.get()

    on_stage(scene)


def test_who_gives_up_dialling_over_a_cut_link_is_never_connected(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        await stage.links.cut([OUT])
        reader, writer = await stage.ask_for("fe80::2")
        writer.write_eof()
        assert await reader.read(-1) == b"", "the proxy drops it, without an answer"
        await stage.links.heal()
        near, far = await stage.connect()
        near[1].write(b"the only one")
        assert await far[0].readexactly(12) == b"the only one"

    on_stage(scene)


def test_the_end_of_a_stream_crosses_only_healthy_links(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        await stage.links.cut([OUT])
        near[1].write(b"last words")
        near[1].write_eof()
        assert await hears_nothing(far[0])
        await stage.links.heal([OUT])
        assert await far[0].read(-1) == b"last words"
        far[1].write(b"and an answer")  # half-closed: the way back is still open
        assert await near[0].readexactly(13) == b"and an answer"

    on_stage(scene)


def test_a_reset_crosses_only_healthy_links(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        await stage.links.cut([OUT])
        _reset(near)
        assert await hears_nothing(far[0])
        await stage.links.heal()
        with pytest.raises(ConnectionResetError):
            await far[0].read(1)

    on_stage(scene)


def test_a_source_whose_destination_is_gone_hears_of_it(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        await stage.links.cut([BACK])
        _reset(far)
        near[1].write(b"anybody there?")
        assert await hears_nothing(near[0])
        await stage.links.heal()
        with pytest.raises(ConnectionResetError):
            await near[0].read(1)

    on_stage(scene)


def _reset(end: Streams) -> None:
    end[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end[1].transport.abort()


def test_a_delay_keeps_bytes_back_in_one_direction(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        clock = asyncio.get_running_loop().time
        await stage.links.shape([OUT], LinkShape(delay_ms=200))
        started_s = clock()
        near[1].write(b"late")
        assert await far[0].readexactly(4) == b"late"
        assert clock() - started_s >= 0.2
        started_s = clock()
        far[1].write(b"soon")
        assert await near[0].readexactly(4) == b"soon"
        started_s = clock()
        near, far = await stage.connect()
        assert clock() - started_s >= 0.2, "opening a connection takes a trip, too"

    on_stage(scene)


def test_jitter_varies_the_delay_and_keeps_the_order(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        await stage.links.shape([OUT], LinkShape(delay_ms=30, jitter_ms=30))
        clock = asyncio.get_running_loop().time
        latencies = []
        for number in range(20):
            started_s = clock()
            near[1].write(bytes([number]))
            assert await far[0].readexactly(1) == bytes([number])
            latencies.append(clock() - started_s)
        assert max(latencies) - min(latencies) > 0.01
        for number in range(100):
            near[1].write(bytes([number]))
            await asyncio.sleep(0.001)  # pieces of their own, each with its own delay
        assert await far[0].readexactly(100) == bytes(range(100))

    on_stage(scene)


def test_a_rate_bounds_what_all_connections_of_a_link_get_together(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        ends = [await stage.connect() for _ in range(2)]
        await stage.links.shape([OUT], LinkShape(rate_bytes_s=100_000))
        started_s = asyncio.get_running_loop().time()
        for near, _ in ends:
            near[1].write(bytes(25_000))
        await asyncio.gather(*(far[0].readexactly(25_000) for _, far in ends))
        assert asyncio.get_running_loop().time() - started_s >= 0.4

    on_stage(scene)


def test_a_heal_delivers_delayed_bytes_at_once(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        await stage.links.shape([OUT], LinkShape(delay_ms=600_000))
        near[1].write(b"in ten minutes")
        assert await hears_nothing(far[0])
        await stage.links.heal()
        assert await far[0].readexactly(14) == b"in ten minutes"

    on_stage(scene)


def test_much_data_both_ways_arrives_whole_under_changing_faults(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        near, far = await stage.connect()
        data = hashlib.shake_256(b"splitvote").digest(8 << 20)
        shapes = [LinkShape(delay_ms=5, jitter_ms=5), LinkShape(rate_bytes_s=20e6), LinkShape()]

        async def disturb() -> None:
            while True:
                for shape in shapes:
                    await stage.links.shape([OUT, BACK], shape)
                    await asyncio.sleep(0.02)
                await stage.links.cut([OUT, BACK])
                await asyncio.sleep(0.02)
                await stage.links.heal()
                await asyncio.sleep(0.02)

        disturbing = asyncio.create_task(disturb())
        near[1].write(data)
        far[1].write(data)
        assert await far[0].readexactly(len(data)) == data
        assert await near[0].readexactly(len(data)) == data
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)

    on_stage(scene)


def test_what_a_link_cannot_do_is_refused(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(NemesisError, match=r"cannot do loss here .*TCP streams"):
            await stage.links.shape([OUT], LinkShape(loss=0.1))
        with pytest.raises(NemesisError, match="zero or more"):
            await stage.links.shape([OUT], LinkShape(delay_ms=-1))
        with pytest.raises(NemesisError, match=r"\('n1', 'n9'\) is no link of this cluster"):
            await stage.links.cut([("n1", "n9")])

    on_stage(scene)


def test_a_proxy_that_is_gone_is_said_to_be(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        record = stage.links.record
        assert record is not None
        assert record.is_alive()
        stage.links._proxy._process.kill()
        with pytest.raises(NemesisError, match="its work cannot be trusted"):
            await stage.links.counters()
        await stage.links.close()
        assert not record.is_alive()
        with pytest.raises(NemesisError, match="bring the cluster up first"):
            await stage.links.counters()

    on_stage(scene)


def test_the_proxy_ends_when_its_control_socket_does(on_stage) -> None:
    """On systems where the kernel does not see to it, too."""

    async def scene(stage: Stage) -> None:
        record = stage.links.record
        assert record is not None
        stage.links._proxy._streams[1].close()
        assert await wait_state(record.pid, ProcessState.STOPPED, timeout_s=BOUND_S)

    on_stage(scene)
