"""The link proxy: a process through which all that members say to each other passes, so that links can be cut.

Run as ``python -m splitvote.harness.clusters.network.linkproxy`` with a connected
socket as stdin.  Every member is given a SOCKS5 listener of its own as
``HTTP_PROXY``: the listener is the source of a connection, the CONNECT's target
its destination, hence every directed link is known without a look at the bytes.
Targets are the members' advertised addresses; nothing else is ever dialled.

Opening a connection takes a packet each way, so it waits until both links are
healthy; the source may give up meanwhile.

The way of clients to members that are somebody else's is forwarded instead:
each member has a listener, the source is whoever dials it, and where it leads
can be changed, for such members move: whoever is at the old place by then is
somebody else, so that connections to there are reset.

It is a process of its own, since a stall of the harness (garbage collection, a
checker) would delay heartbeats and so cause elections.  It ends when stdin does.

Control: one JSON object a line, one answer each, in order, with the request's ``id``.

=========================================  ==========================================
``{"do": "listen", "members": {name: {"address": a, "port": p}}}``  ``{"ports": {name: port}}``
``{"do": "forward", "client": c, "members": {name: [host, port]}}``  ``{"ports": {name: port}}``
``{"do": "route", "members": {name: [host, port] or null}}``  ``{}``
``{"do": "cut", "pairs": [[a, b]]}``       ``{}``
``{"do": "shape", "pairs": ..., "delay_s", "jitter_s", "rate_bytes_s"}``  ``{}``
``{"do": "heal", "pairs": [[a, b]]}``      ``{}``
``{"do": "counters"}``                     ``{"links": [[a, b, offered, delivered]]}``
=========================================  ==========================================

An answer ``{"error": text}`` says that nothing was done.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

from splitvote.harness.clusters.network.flows import Connection, Link

LOOPBACK: Final = "127.0.0.1"
HANDSHAKE_TIMEOUT_S: Final = 10.0
"""How long a client may take to say where it wants to go."""

CONNECT_TIMEOUT_S: Final = 5.0
"""How long a member that clients are forwarded to may take to accept."""

_LOOK_EVERY_S: Final = 0.2
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_ESTABLISHED: Final = 1
"""The state of a TCP socket whose other end neither has gone nor will send no more (Linux's tcp_states.h)."""

_ACCEPTED: Final = b"\x05\x00"
_REPLY_TAIL: Final = b"\x00\x01\x00\x00\x00\x00\x00\x00"
_SUCCEEDED, _NOT_ALLOWED, _REFUSED = b"\x05\x00", b"\x05\x02", b"\x05\x05"


class LinkProxy:
    """Listeners, links and connections of one cluster."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, str], Link] = {}
        self._destinations: dict[str, tuple[str, int]] = {}
        self._routes: dict[str, tuple[str, int] | None] = {}
        self._client = ""
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, members: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Open a listener for every member; returns their ports."""
        self._links = {(a, b): Link() for a in members for b in members if a != b}
        self._destinations = {
            str(ipaddress.ip_address(member["address"])): (name, member["port"]) for name, member in members.items()
        }
        return {name: self._listen_for(partial(self._serve, name)) for name in members}

    def forward(self, client: str, members: dict[str, tuple[str, int]]) -> dict[str, int]:
        """Open a listener for the clients of every member, who are called so in pairs; returns their ports."""
        self._client = client
        self._links = {pair: Link() for name in members for pair in ((client, name), (name, client))}
        self._routes = dict(members)
        return {name: self._listen_for(partial(self._forward, name)) for name in members}

    def route(self, members: dict[str, tuple[str, int] | None]) -> None:
        """Lead clients elsewhere, or nowhere; connections that lead to where a member was are reset."""
        for name, place in members.items():
            if place != self._routes[name]:
                self._routes[name] = place
                for flow in list(self._links[self._client, name].flows):
                    flow.connection.close(reset=True)

    def _listen_for(self, serve: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> int:
        listener = socket.create_server((LOOPBACK, 0), backlog=256)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._spawn(self._accept(serve, listener))
        port: int = listener.getsockname()[1]
        return port

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what the harness asks; raises KeyError, TypeError or ValueError for what makes no sense."""
        match request["do"]:
            case "listen":
                return {"ports": self.listen(request["members"])}
            case "forward":
                return {"ports": self.forward(request["client"], request["members"])}
            case "route":
                self.route(request["members"])
            case "cut":
                for link in self._chosen(request):
                    link.cut()
            case "shape":
                shape = {name: float(request[name]) for name in ("delay_s", "jitter_s", "rate_bytes_s")}
                for link in self._chosen(request):
                    link.shape(**shape)
            case "heal":
                for link in self._chosen(request):
                    link.heal()
            case "counters":
                return {"links": [[*pair, one.offered_bytes, one.delivered_bytes] for pair, one in self._links.items()]}
            case unknown:
                raise ValueError(f"cannot do {unknown!r}")
        return {}

    def _chosen(self, request: dict[str, Any]) -> list[Link]:
        return [self._links[source, destination] for source, destination in request["pairs"]]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(
        self, serve: Callable[[socket.socket], Coroutine[Any, Any, None]], listener: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                near, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors for now, or gone before it was accepted
                await asyncio.sleep(0.05)
                continue
            near.setblocking(False)
            self._spawn(serve(near))

    async def _serve(self, source: str, near: socket.socket) -> None:
        """Open one connection for a member, or say why not."""
        far: socket.socket | None = None
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                target = await _read_target(near)
            name, port = self._destinations.get(target, ("", 0))
            out, back = self._links.get((source, name)), self._links.get((name, source))
            if out is None or back is None:
                await _reply(near, _NOT_ALLOWED)
                raise ConnectionRefusedError(f"{target} is no other member")
            await _until_open(near, out, back)
            far = await _connect((LOOPBACK, port))
            if far is None:
                await _reply(near, _REFUSED)
                raise ConnectionRefusedError(f"{name} does not listen")
            await asyncio.sleep(out.latency_s() + back.latency_s())
            await _reply(near, _SUCCEEDED)
        except (OSError, EOFError, ValueError, TimeoutError):
            near.close()
            if far is not None:
                far.close()
            return
        _join(near, far, out, back)

    async def _forward(self, name: str, near: socket.socket) -> None:
        """Open one connection for a client; one whose member cannot be reached is reset, as by the member's machine."""
        out, back = self._links[self._client, name], self._links[name, self._client]
        far: socket.socket | None = None
        place: tuple[str, int] | None = None
        with suppress(OSError, EOFError, TimeoutError):
            await _until_open_for_client(near, out, back)
            place = self._routes[name]
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far = None if place is None else await _connect(place)
        if far is not None and place != self._routes[name]:  # it has moved meanwhile
            far.close()
            far = None
        if far is None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            near.close()
        else:
            _join(near, far, out, back)


def _join(near: socket.socket, far: socket.socket, out: Link, back: Link) -> None:
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    Connection(near, far, out, back).start()


async def _read_exactly(near: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(near, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


async def _read_target(near: socket.socket) -> str:
    """The server's side of a SOCKS5 handshake (RFC 1928) up to the request; returns the address asked for."""
    version, methods = await _read_exactly(near, 2)
    if version != 5:
        raise ValueError(f"version {version} is not SOCKS5")
    await _read_exactly(near, methods)
    await asyncio.get_running_loop().sock_sendall(near, _ACCEPTED)
    _, _, _, address_type = await _read_exactly(near, 4)
    if address_type == 1:
        target = str(ipaddress.IPv4Address(await _read_exactly(near, 4)))
    elif address_type == 4:
        target = str(ipaddress.IPv6Address(await _read_exactly(near, 16)))
    else:
        target = (await _read_exactly(near, (await _read_exactly(near, 1))[0])).decode("ascii", "replace")
    await _read_exactly(near, 2)  # the port: a member has one address and one port behind it
    return target


async def _reply(near: socket.socket, reply: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(near, reply + _REPLY_TAIL)


async def _until_open(near: socket.socket, *links: Link) -> None:
    """Wait until no link is cut; EOFError when the client gives up first."""
    loop = asyncio.get_running_loop()
    gave_up = loop.create_future()

    def peek() -> None:
        loop.remove_reader(near)
        if not gave_up.done():
            gave_up.set_result(None)

    # The client says nothing until it has our answer, so that anything to read is its end.
    loop.add_reader(near, peek)
    try:
        while closed := [link for link in links if link.is_cut]:
            opened = asyncio.ensure_future(closed[0].opened.wait())
            await asyncio.wait((opened, gave_up), return_when=asyncio.FIRST_COMPLETED)
            opened.cancel()
            if gave_up.done():
                raise EOFError
    finally:
        loop.remove_reader(near)
        gave_up.cancel()


async def _until_open_for_client(near: socket.socket, *links: Link) -> None:
    """Wait until no link is cut; EOFError when the client gives up first.

    A client does not wait for us before it sends, so that its end is no news on its socket, but a state of it.
    """
    while closed := [link for link in links if link.is_cut]:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await closed[0].opened.wait()
        if near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
            raise EOFError


async def _connect(address: tuple[str, int]) -> socket.socket | None:
    """A connection to a host (a name or an address) and port; None where nobody listens there."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        for family, place in await _places(*address):
            far = socket.socket(family, socket.SOCK_STREAM)
            try:
                far.setblocking(False)
                await loop.sock_connect(far, place)
            except OSError:
                far.close()
            except BaseException:
                far.close()
                raise
            else:
                return far
    return None


async def _places(host: str, port: int) -> list[tuple[int, Any]]:
    """What to try to connect to: address families and addresses."""
    with suppress(ValueError):
        is_v4 = ipaddress.ip_address(host).version == 4
        return [(socket.AF_INET if is_v4 else socket.AF_INET6, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, place) for family, _, _, _, place in found]


async def serve(control: socket.socket) -> None:
    """Serve the harness on this socket until it closes it."""
    reader, writer = await asyncio.open_connection(sock=control)
    proxy = LinkProxy()
    while line := await reader.readline():
        request = json.loads(line)
        try:
            answer = proxy.answer(request)
        except (KeyError, TypeError, ValueError) as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        writer.write(json.dumps({**answer, "id": request.get("id")}).encode() + b"\n")
        await writer.drain()


def main() -> None:
    """Serve on stdin until it closes; connections end with the process."""
    with suppress(KeyboardInterrupt, ConnectionError):
        asyncio.run(serve(socket.socket(fileno=0)))


if __name__ == "__main__":
    main()
