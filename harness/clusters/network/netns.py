"""Real etcd members in network namespaces of their own: links that the kernel cuts, loses packets on and slows down.

Every node has a namespace and an address in it; a bridge in one more, the
*hub*, joins them.  No interface leads out of these namespaces.  Clients come in
through the *gate* (``gate``), a process in the hub that serves listeners on
127.0.0.1, so that their links to the nodes are packets, too, and can be cut.

All of it lives in two processes beside the members (``namespaces`` and
``gate``), which end with the harness; so do the namespaces.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.cluster import CLIENT, Links
from splitvote.harness.clusters.network import gate, namespaces
from splitvote.harness.clusters.network.controlled import ControlledProcess, environment, program
from splitvote.harness.clusters.network.namespaces import Work
from splitvote.harness.clusters.network.netlinks import NamespaceLinks
from splitvote.harness.clusters.network.packetfilter import FILTERS
from splitvote.harness.clusters.network.place import Place
from splitvote.harness.clusters.network.queueing import INTERFACE
from splitvote.harness.clusters.ports import LOOPBACK
from splitvote.harness.clusters.processes import CAN_TETHER, Children, ProcessRecord
from splitvote.harness.clusters.procfs import started
from splitvote.harness.errors import EnvironmentFailure

PROBE_TIMEOUT_S: Final = 20.0
END_TIMEOUT_S: Final = 10.0
CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
_SUBNET: Final = "198.18.0"
"""Set aside for such networks (RFC 2544); nothing outside the namespaces ever sees it."""

_PREFIX: Final = 24
_HUB_NUMBER: Final = 1
_FIRST_NUMBER: Final = 11
_BRIDGE: Final = "bridge0"
_PLAIN: Final = "gso_max_segs 1"
"""Segments, not bundles of them as the kernel makes where it can: a packet lost is to be one packet."""


class Means(msgspec.Struct, frozen=True):
    """What this machine has for namespaces, as it was tried out; ``problems`` are what keeps us from them.

    ``kind`` is "root" or "user" (namespaces of an ordinary user); ``filters``
    and ``qdiscs`` are what works of nft and iptables, htb and netem;
    ``failures`` are the words of what does not.
    """

    problems: tuple[str, ...] = ()
    kind: str | None = None
    filters: tuple[str, ...] = ()
    qdiscs: tuple[str, ...] = ()
    failures: dict[str, str] = {}

    @property
    def words(self) -> str:
        """What there is, for people."""
        lacks = [name for name in ("htb", "netem") if name not in self.qdiscs]
        how = "as root" if self.kind == namespaces.AS_ROOT else "in a user namespace"
        return f"{how}, by {self.filters[0]}" + (f"; the kernel lacks {' and '.join(lacks)}" if lacks else "")


@functools.cache
def means(kind: str | None = None) -> Means:
    """Try out what this machine has, in namespaces that are gone when this returns; once for each ``kind``.

    ``kind`` "user" does without root's privileges even where there are some.
    """
    if not CAN_TETHER:
        return Means(problems=("there are network namespaces on Linux only",))
    command = [*program(namespaces.__name__), "--probe", *filter(None, [kind])]
    try:
        done = subprocess.run(
            command,
            env=environment(),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Means)
    except subprocess.TimeoutExpired:
        return Means(problems=(f"trying out took more than {PROBE_TIMEOUT_S:g} s",))
    except msgspec.DecodeError:
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        return Means(problems=(f"trying out failed: {said or f'exit status {done.returncode}'}",))


class NamespaceNetwork:
    """A namespace a node, joined by a bridge; raises EnvironmentFailure, naming what is missing, where that cannot be.

    ``kind`` and ``packet_filter`` are for those who want others than the best
    there are ("user"; "iptables").
    """

    name: Final = "netns"

    def __init__(
        self, nodes: Sequence[str], children: Children, *, kind: str | None = None, packet_filter: str | None = None
    ) -> None:
        found = means(kind)
        if found.problems:
            raise EnvironmentFailure(f"--cluster netns cannot be had here: {'; '.join(found.problems)}")
        self._nodes = tuple(nodes)
        self._kind = found.kind
        self._children = children
        self._keeper = ControlledProcess("keeper of the namespaces", namespaces.__name__, children)
        self._gate: subprocess.Popen[bytes] | None = None
        self._gate_record: ProcessRecord | None = None
        self._listeners: dict[str, socket.socket] = {}
        self._ports: dict[str, int] = {}
        self._descriptors: dict[str, tuple[int, ...]] = {}
        numbers = {CLIENT: _HUB_NUMBER} | {node: number for number, node in enumerate(nodes, _FIRST_NUMBER)}
        self._addresses = {name: f"{_SUBNET}.{number}" for name, number in numbers.items()}
        packets = FILTERS[packet_filter or found.filters[0]]
        self._links = NamespaceLinks(self._addresses, packets, found.qdiscs, self._run)

    @property
    def links(self) -> Links | None:
        """See ``Network.links``."""
        return self._links

    def peer_url(self, node: str) -> str:
        """See ``Network.peer_url``."""
        return f"http://{self._addresses[node]}:{PEER_PORT}"

    def endpoint(self, node: str) -> str:
        """See ``Network.endpoint``: a door of the gate."""
        if node not in self._ports:
            self._listen(node)
        return f"{LOOPBACK}:{self._ports[node]}"

    def _listen(self, node: str) -> None:
        """Open a door; who comes before the gate is there waits."""
        self._listeners[node] = listener = socket.create_server((LOOPBACK, 0), backlog=1024)
        self._ports[node] = listener.getsockname()[1]

    def ports(self, node: str) -> Mapping[str, int]:
        """See ``Network.ports``."""
        return {"client": self._ports[node]} if node in self._ports else {}

    @property
    def processes(self) -> Mapping[str, ProcessRecord]:
        """See ``Network.processes``."""
        found = {"namespaces": self._keeper.record, "client gate": self._gate_record}
        return {name: record for name, record in found.items() if record is not None}

    @property
    def trouble(self) -> str | None:
        """See ``Network.trouble``."""
        if self._keeper.has_died:
            return "the keeper of the namespaces"
        return "the client gate" if self._gate is not None and self._gate.poll() is not None else None

    async def open(self, logs: Path) -> None:
        """See ``Network.open``."""
        await self._keeper.open(logs / "namespaces.log")
        made = await self._keeper.ask({"do": "make", "names": list(self._addresses), "as": self._kind})
        assert self._keeper.record is not None
        pid, user = self._keeper.record.pid, made["user"]
        for name, number in made["namespaces"].items():
            wanted = [number] if user is None else [user, number]
            self._descriptors[name] = tuple(os.open(f"/proc/{pid}/fd/{one}", os.O_RDONLY) for one in wanted)
        await self._run(_hub(self._addresses, made["namespaces"]))
        await self._run(_ends(self._addresses))
        await self._links.begin()
        await self._open_gate(logs / "gate.log")

    async def _open_gate(self, log: Path) -> None:
        for node in self._nodes:
            if node not in self._listeners:
                self._listen(node)
        doors = {self._listeners[node].fileno(): self._addresses[node] for node in self._nodes}
        with log.open("ab") as output:
            self._gate = await self._children.spawn(
                [*program(gate.__name__), *(f"{number}={address}:{CLIENT_PORT}" for number, address in doors.items())],
                env=environment(),
                output=output,
                namespaces=self._descriptors[CLIENT],
                inherited=tuple(doors),
            )
        self._gate_record = ProcessRecord(self._gate.pid, started(self._gate.pid), gate.__name__)

    async def _run(self, work: Work) -> Mapping[str, Sequence[str]]:
        outputs: dict[str, list[str]] = (await self._keeper.ask({"do": "run", "work": work}))["outputs"]
        return outputs

    def namespaces(self, node: str) -> tuple[int, ...]:
        """See ``Network.namespaces``."""
        return self._descriptors[node]

    def place(self, node: str) -> Place:
        """See ``Network.place``."""
        address = self._addresses[node]
        return Place(
            listen_peer_url=f"http://{address}:{PEER_PORT}",
            client_url=f"http://{address}:{CLIENT_PORT}",
            namespaces=self.namespaces(node),
        )

    async def close(self) -> None:
        """See ``Network.close``; the namespaces go with their last process and our own hold on them."""
        try:
            if self._gate is not None:
                await self._children.end(self._gate, timeout_s=END_TIMEOUT_S)
                self._gate = self._gate_record = None
        finally:
            await self._keeper.close()
            self._links.end()
            for descriptors in self._descriptors.values():
                for descriptor in descriptors:
                    with suppress(OSError):
                        os.close(descriptor)
            self._descriptors = {}
            for listener in self._listeners.values():
                listener.close()
            self._listeners = {}


def _hub(addresses: Mapping[str, str], descriptors: Mapping[str, int]) -> Work:
    """The commands that lay a bridge, and a cable from it into every node's namespace."""
    lines = [
        "link set lo up",
        f"link add {_BRIDGE} type bridge stp_state 0 forward_delay 0",
        f"link set {_BRIDGE} addrgenmode none {_PLAIN} up",
        f"addr add {addresses[CLIENT]}/{_PREFIX} dev {_BRIDGE}",
    ]
    for node in addresses:
        if node != CLIENT:
            lines += [
                f"link add to-{node} type veth peer name {INTERFACE} netns /proc/self/fd/{descriptors[node]}",
                f"link set to-{node} master {_BRIDGE} addrgenmode none {_PLAIN} up",
            ]
    return {CLIENT: [_ip(lines)]}


def _ends(addresses: Mapping[str, str]) -> Work:
    """The commands that take the cables up in the nodes' namespaces."""
    return {
        node: [
            _ip(
                [
                    "link set lo up",
                    f"addr add {address}/{_PREFIX} dev {INTERFACE}",
                    f"link set {INTERFACE} addrgenmode none {_PLAIN} up",
                ]
            )
        ]
        for node, address in addresses.items()
        if node != CLIENT
    }


def _ip(lines: Sequence[str]) -> tuple[list[str], str]:
    return ["ip", "-batch", "-"], "\n".join(lines) + "\n"
