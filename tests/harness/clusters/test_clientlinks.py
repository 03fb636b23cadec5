"""The way of our clients to members of somebody else's: one port for each, wherever it is; cut, held, and reset."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from splitvote.harness.cluster import CLIENT, LinkCounter, Links, LinkShape
from splitvote.harness.clusters.attached.clientlinks import ClientLinks, JoinedLinks
from splitvote.harness.clusters.processes import Children
from splitvote.harness.errors import EnvironmentFailure, NemesisError
from tests.nemesis.fake_cluster import FakeCluster

BOUND_S = 120.0
QUIET_S = 0.3
OUT, BACK = (CLIENT, "n1"), ("n1", CLIENT)


class Stage:
    """n1 behind the links, at the first of two servers, which greet as "one" and "two" and send back what they get."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.serving: list[asyncio.Task[None]] = []

    def server(self, words: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                writer.write(words)
                while data := await reader.read(1 << 16):
                    writer.write(data)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            self.serving.append(asyncio.create_task(serve(reader, writer)))

        return accept

    async def dial(self, links: ClientLinks) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = links.endpoint("n1").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
        for task in self.serving:
            task.cancel()
        ends = (writer.wait_closed() for writer in self.writers)
        await asyncio.gather(*self.serving, *ends, return_exceptions=True)


def on_links(tmp_path: Path, body: Callable[[ClientLinks, list[int], Stage], Awaitable[None]]) -> None:
    """Run a body, which is told the servers' ports."""

    async def main() -> None:
        children, stage = Children(), Stage()
        links = ClientLinks(("n1",), children)
        servers = [await asyncio.start_server(stage.server(words), "127.0.0.1", 0) for words in (b"one", b"two")]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        try:
            await links.open({"n1": f"localhost:{ports[0]}"}, tmp_path / "clientproxy.log")
            async with asyncio.timeout(BOUND_S):
                await body(links, ports, stage)
        finally:
            await stage.close()
            await links.close()
            children.close()
            for server in servers:
                server.close()

    asyncio.run(main())


async def read_one(links: ClientLinks, stage: Stage) -> bytes:
    """What a new connection says first; it may be reset before it is known to stand."""
    reader, _ = await stage.dial(links)
    return await reader.readexactly(1)


async def is_quiet(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(QUIET_S):
            await reader.readexactly(1)
    except TimeoutError:
        return True
    return False


def test_clients_are_led_to_the_member_and_what_passes_is_counted(tmp_path: Path) -> None:
    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        reader, writer = await stage.dial(links)
        assert await reader.readexactly(3) == b"one"
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert await links.counters() == {OUT: LinkCounter(5, 5), BACK: LinkCounter(8, 8)}

    on_links(tmp_path, body)


def test_a_member_that_moved_is_found_at_the_same_port(tmp_path: Path) -> None:
    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        before = links.endpoint("n1")
        await links.route("n1", f"127.0.0.1:{ports[1]}")
        reader, _ = await stage.dial(links)
        assert await reader.readexactly(3) == b"two"
        assert links.endpoint("n1") == before

    on_links(tmp_path, body)


def test_nobody_is_left_talking_to_where_a_member_was(tmp_path: Path) -> None:
    """Another one may be there by now: what it answered would be taken for the member's own words."""

    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        reader, _ = await stage.dial(links)
        assert await reader.readexactly(3) == b"one"
        await links.route("n1", None)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        with pytest.raises(ConnectionResetError):
            await read_one(links, stage)
        await links.route("n1", f"127.0.0.1:{ports[0]}")
        reader, _ = await stage.dial(links)
        assert await reader.readexactly(3) == b"one"

    on_links(tmp_path, body)


@pytest.mark.parametrize("cut", [OUT, BACK])
def test_a_cut_holds_what_is_said_on_standing_connections(tmp_path: Path, cut: tuple[str, str]) -> None:
    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        reader, writer = await stage.dial(links)
        assert await reader.readexactly(3) == b"one"
        await links.cut([cut])
        writer.write(b"held")
        assert await is_quiet(reader)
        await links.heal()
        assert await reader.readexactly(4) == b"held"

    on_links(tmp_path, body)


def test_a_connection_begun_in_a_cut_stands_once_that_is_healed(tmp_path: Path) -> None:
    """The client has long said its first words by then: they are no reason to take it for gone."""

    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        await links.cut([OUT, BACK])
        reader, writer = await stage.dial(links)
        writer.write(b"preface")
        assert await is_quiet(reader)
        await links.heal([OUT, BACK])
        assert await reader.readexactly(10) == b"onepreface"

    on_links(tmp_path, body)


def test_a_client_that_gives_up_in_a_cut_is_never_led_to_the_member(tmp_path: Path) -> None:
    """Clients try again and again while they are cut off; all of that at once, afterwards, would be a flood."""

    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        await links.cut([OUT])
        reader, writer = await stage.dial(links)
        writer.write(b"x")
        writer.close()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)  # the proxy has noticed
        await links.heal()
        assert (await links.counters())[OUT] == LinkCounter(0, 0)

    on_links(tmp_path, body)


def test_a_member_that_is_down_resets_its_clients(tmp_path: Path) -> None:
    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            await links.route("n1", f"127.0.0.1:{unused.getsockname()[1]}")
            with pytest.raises(ConnectionResetError):
                await read_one(links, stage)

    on_links(tmp_path, body)


def test_they_cannot_be_shaped_and_are_links_of_clients_only(tmp_path: Path) -> None:
    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        await links.shape([OUT], LinkShape())
        with pytest.raises(NemesisError, match="cannot be"):
            await links.shape([OUT], LinkShape(delay_ms=1))
        with pytest.raises(NemesisError, match="is no link of this cluster"):
            await links.cut([("n1", "n2")])

    on_links(tmp_path, body)


def test_there_is_no_endpoint_before_they_are_open() -> None:
    with pytest.raises(EnvironmentFailure, match="bring the cluster up first"):
        ClientLinks(("n1",), Children()).endpoint("n1")


def test_joined_with_the_nodes_links_each_pair_goes_where_it_belongs(tmp_path: Path) -> None:
    async def body(links: ClientLinks, ports: list[int], stage: Stage) -> None:
        nodes = FakeCluster(2)
        theirs = nodes.capability(Links)
        assert theirs is not None
        joined = JoinedLinks(links, theirs)
        assert {"client", "cut", "loss"} <= joined.supports
        await joined.cut([OUT, ("n1", "n2")])
        assert nodes.cuts == {("n1", "n2")}
        counters = await joined.counters()
        assert OUT in counters
        assert ("n1", "n2") in counters
        await joined.heal()

    on_links(tmp_path, body)
