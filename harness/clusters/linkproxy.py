"""The link proxy: a process through which all that members say to each other passes, so that links can be cut.

Run as ``python -m splitvote.harness.clusters.linkproxy`` with a connected
socket as stdin.  Every member is given a SOCKS5 listener of its own as
``HTTP_PROXY``: the listener is the source of a connection, the CONNECT's target
its destination, hence every directed link is known without a look at the bytes.
Targets are the members' advertised addresses; nothing else is ever dialled.

Opening a connection takes a packet each way, so it waits until both links are
healthy; the source may give up meanwhile.

It is a process of its own, since a stall of the harness (garbage collection, a
checker) would delay heartbeats and so cause elections.  It ends when stdin does.

Control: one JSON object a line, one answer each, in order, with the request's ``id``.

=========================================  ==========================================
``{"do": "listen", "members": {name: {"address": a, "port": p}}}``  ``{"ports": {name: port}}``
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
from contextlib import suppress
from typing import Any, Final

from splitvote.harness.clusters.flows import Connection, Link

LOOPBACK: Final = "127.0.0.1"
HANDSHAKE_TIMEOUT_S: Final = 10.0
"""How long a client may take to say where it wants to go."""

_ACCEPTED: Final = b"\x05\x00"
_REPLY_TAIL: Final = b"\x00\x01\x00\x00\x00\x00\x00\x00"
_SUCCEEDED, _NOT_ALLOWED, _REFUSED = b"\x05\x00", b"\x05\x02", b"\x05\x05"


class LinkProxy:
    """Listeners, links and connections of one cluster."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, str], Link] = {}
        self._destinations: dict[str, tuple[str, int]] = {}
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, members: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Open a listener for every member; returns their ports."""
        self._links = {(a, b): Link() for a in members for b in members if a != b}
        self._destinations = {
            str(ipaddress.ip_address(member["address"])): (name, member["port"]) for name, member in members.items()
        }
        ports = {}
        for name in members:
            listener = socket.create_server((LOOPBACK, 0), backlog=256)
            listener.setblocking(False)
            self._listeners.append(listener)
            self._spawn(self._accept(name, listener))
            ports[name] = listener.getsockname()[1]
        return ports

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what the harness asks; raises KeyError, TypeError or ValueError for what makes no sense."""
        match request["do"]:
            case "listen":
                return {"ports": self.listen(request["members"])}
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

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, source: str, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                near, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors for now, or gone before it was accepted
                await asyncio.sleep(0.05)
                continue
            near.setblocking(False)
            self._spawn(self._serve(source, near))

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
            far = await _connect(port)
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


async def _connect(port: int) -> socket.socket | None:
    far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    far.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(far, (LOOPBACK, port))
    except OSError:
        far.close()
        return None
    return far


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
