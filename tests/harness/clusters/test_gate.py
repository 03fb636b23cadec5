"""The gate, as clients and members see it: bytes, ends and resets pass both ways; nobody is held up by anybody."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from splitvote.harness.clusters.network import gate
from splitvote.harness.clusters.network.controlled import environment, program
from splitvote.harness.clusters.ports import HeldPort
from splitvote.harness.clusters.processes import Children

BOUND_S = 240.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage:
    """A gate before a member, of which the test plays both sides."""

    def __init__(self, door: int, arrived: asyncio.Queue[Streams]) -> None:
        self._door = door
        self._arrived = arrived

    async def connect(self) -> tuple[Streams, Streams]:
        """A client's connection, and the member's end of it."""
        client = await self.dial()
        return client, await self._arrived.get()

    async def dial(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self._door)


@pytest.fixture
def on_stage(tmp_path: Path) -> Callable[[Callable[[Stage], Awaitable[None]]], None]:
    """Plays a scene within a bound; ``listens`` whether there is a member at all."""

    def play(scene: Callable[[Stage], Awaitable[None]], *, listens: bool = True) -> None:
        async def bounded() -> None:
            children = Children()
            arrived: asyncio.Queue[Streams] = asyncio.Queue()

            async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                arrived.put_nowait((reader, writer))

            member = await asyncio.start_server(arrive, "127.0.0.1", 0)
            nobodys = HeldPort()
            port = member.sockets[0].getsockname()[1] if listens else nobodys.number
            with socket.create_server(("127.0.0.1", 0)) as door, (tmp_path / "gate.log").open("wb") as log:
                process = await children.spawn(
                    [*program(gate.__name__), f"{door.fileno()}=127.0.0.1:{port}"],
                    env=environment(),
                    output=log,
                    inherited=(door.fileno(),),
                )
                try:
                    async with asyncio.timeout(BOUND_S):
                        await scene(Stage(door.getsockname()[1], arrived))
                    assert process.poll() is None
                finally:
                    process.kill()
                    process.wait()
                    children.forget(process)
                    children.close()
                    member.close()
                    nobodys.release()
            assert (tmp_path / "gate.log").read_bytes() == b""

        asyncio.run(bounded())

    return play


async def hang_up(*streams: Streams) -> None:
    for _, writer in streams:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def test_bytes_pass_both_ways_and_each_end_by_itself(on_stage) -> None:
    """A side that has said all it has to say may still listen."""

    async def scene(stage: Stage) -> None:
        client, member = await stage.connect()
        client[1].write(b"question")
        assert await member[0].readexactly(8) == b"question"
        client[1].write_eof()
        assert await member[0].read() == b""
        member[1].write(b"answer")
        assert await client[0].readexactly(6) == b"answer"
        member[1].close()
        assert await client[0].read() == b""
        await hang_up(client, member)

    on_stage(scene)


def test_much_data_both_ways_arrives_whole(on_stage) -> None:
    """More than all buffers on the way hold, to readers that take their time."""

    async def scene(stage: Stage) -> None:
        client, member = await stage.connect()
        data = os.urandom(1 << 20) * 20

        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.gather(send(client[1]), send(member[1]))
        got = await asyncio.gather(client[0].read(-1), member[0].read(-1))
        await sending
        assert got[0] == data
        assert got[1] == data
        await hang_up(client, member)

    on_stage(scene)


def test_who_does_not_read_holds_up_nobody_else(on_stage) -> None:
    """Its sender is stopped by its own buffers, and goes on when it reads again."""

    async def scene(stage: Stage) -> None:
        (client, deaf), (other, member) = await stage.connect(), await stage.connect()
        client[1].write(b"x" * (64 << 20))
        for _ in range(100):
            other[1].write(b"ping")
            assert await member[0].readexactly(4) == b"ping"
        draining = asyncio.create_task(client[1].drain())
        assert len(await deaf[0].readexactly(64 << 20)) == 64 << 20
        await draining
        await hang_up(client, deaf, other, member)

    on_stage(scene)


def test_a_member_that_does_not_listen_resets_the_client(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(3):
            try:
                client = await stage.dial()
            except ConnectionResetError:  # it was that quick
                continue
            client[1].write(b"hello")
            with pytest.raises(ConnectionError):
                await client[0].read()
            await hang_up(client)

    on_stage(scene, listens=False)


def test_a_reset_passes_both_ways(on_stage) -> None:
    async def scene(stage: Stage) -> None:
        for is_from_client in (True, False):
            client, member = await stage.connect()
            near, far = (client, member) if is_from_client else (member, client)
            near[1].write(b"going")
            assert await far[0].readexactly(5) == b"going"
            near[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near[1].transport.abort()
            with pytest.raises(ConnectionResetError):
                await far[0].read()
            await hang_up(far)

    on_stage(scene)


def test_a_thousand_connections_come_and_go(on_stage) -> None:
    """Descriptors are used again; none is mistaken for the one that had its number before."""

    async def scene(stage: Stage) -> None:
        for number in range(1000):
            client, member = await stage.connect()
            client[1].write(b"%04d" % number)
            assert await member[0].readexactly(4) == b"%04d" % number
            (client if number % 2 else member)[1].transport.abort()
            await hang_up(client, member)

    on_stage(scene)
