"""Real etcd members on nodes that are reached by commands: docker-compose's containers, or hosts over ssh.

Whoever has the nodes (``Hosts``) brings them up and leaves them as they were
found; on them is only what ``occupation`` knows to take away.  What that is, is
in the directory's ``nodes.json`` before anything is touched, so that another
process can do it (``heal_nodes``)::

    DIRECTORY/nodes.json   DIRECTORY/logs/<node>.log   DIRECTORY/data/<node>/ (fetched at the end)
"""

from __future__ import annotations

import contextlib
import os
import socket
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from splitvote.harness.cluster import (
    Admin,
    Archivist,
    Auth,
    Data,
    Health,
    Links,
    Logs,
    Members,
    Process,
    ProcessState,
    Roles,
    Upkeep,
    Versions,
)
from splitvote.harness.clusters.clocks.patched import ProcessClocks
from splitvote.harness.clusters.connections import MemberConnections, operators, plain
from splitvote.harness.clusters.failpoints import NODE_ADDRESS, GofailPoints, has_failpoints, through
from splitvote.harness.clusters.filedamage import snapshot_count
from splitvote.harness.clusters.gofail import VARIABLE
from splitvote.harness.clusters.lastwords import last_words
from splitvote.harness.clusters.network.namespaces import Work
from splitvote.harness.clusters.network.netlinks import NamespaceLinks
from splitvote.harness.clusters.network.packetfilter import FILTERS
from splitvote.harness.clusters.processes import ProcessRecord
from splitvote.harness.clusters.procfs import started
from splitvote.harness.clusters.readiness import READY_TIMEOUT_S, await_ready
from splitvote.harness.clusters.remote.agents import NodeAgents
from splitvote.harness.clusters.remote.clock import RemotePatcher
from splitvote.harness.clusters.remote.damage import RemoteDamage
from splitvote.harness.clusters.remote.disks import RemoteDisks
from splitvote.harness.clusters.remote.hosts import Hosts, Node, hosts_of
from splitvote.harness.clusters.remote.members import RemoteMember, RemoteMembers
from splitvote.harness.clusters.remote.nodes_file import NODES, NodesDescription
from splitvote.harness.clusters.remote.occupation import ROOT, Occupation, fetch_log
from splitvote.harness.clusters.remote.resources import RemoteResources
from splitvote.harness.clusters.versions import BinaryVersions, check_versions
from splitvote.harness.control import on_all
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError
from splitvote.harness.etcd.daemon import Etcd, ServerOptions
from splitvote.harness.machine import Clock, Damage, Disk, Failpoints, Resources

if TYPE_CHECKING:
    from splitvote.harness.etcd.connection import ConnectionOptions

C = TypeVar("C")

MOST_NODES: Final = 9
_DIGEST_CHARACTERS: Final = 16
_HAS_FILE: Final = '[ -x "$1" ] || { mkdir -p "${1%/*}" && exit 7; }'
_MISSING: Final = 7


class RemoteCluster:
    """Members on ``nodes`` of some hosts; ``async with`` brings them up and takes them down.

    ``etcd`` is a binary of this machine that is brought to the nodes, by node;
    a node without one starts what it has itself.  ``etcd_others`` are more
    binaries that nodes can be moved to and back; ``demands`` are capabilities that
    cost something even where they are not used (Disk).  Raises ConfigError or
    EnvironmentFailure for what cannot be; changes nothing before ``up``.
    """

    def __init__(
        self,
        *,
        directory: Path,
        hosts: Hosts,
        nodes: Sequence[str],
        etcd: Mapping[str, Etcd],
        etcd_others: Sequence[Etcd] = (),
        etcd_args: Sequence[str] = (),
        options: ServerOptions | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        demands: Collection[type[Any]] = (),
    ) -> None:
        self.directory = Path(directory).absolute()
        self.nodes = tuple(nodes)
        if strange := [name for name in etcd if name not in self.nodes]:
            raise ConfigError(
                f"there is no node {strange[0]!r} to give an etcd of its own; nodes are {', '.join(nodes)}"
            )
        self._hosts = hosts
        self._facts = facts = hosts.facts()
        if not facts.filters:
            raise EnvironmentFailure(
                f"the {hosts.name} nodes have neither nft nor iptables that work: links cannot be hurt"
            )
        self._given = dict(etcd)
        self.other_binaries = tuple(etcd_others)
        self._members = {
            name: RemoteMember(
                name, _there(self._given[name]) if name in self._given else hosts.binary(name), self.directory
            )
            for name in self.nodes
        }
        check_versions(list(self.binaries.values()), self.other_binaries)
        self._ready_timeout_s = ready_timeout_s
        mark = f"{zlib.crc32(os.fsencode(self.directory)):08x}"
        self._token = f"run-{mark}"
        self._owner = f"{socket.gethostname()}:{self.directory}"
        self._packets = FILTERS[facts.filters[0]]
        self._peer_urls = dict.fromkeys(self.nodes, "")
        has_points = set(self._given) == set(self.nodes) and all(has_failpoints(etcd.path) for etcd in etcd.values())
        self._process = RemoteMembers(
            self._members,
            token=f"splitvote-{mark}",
            options=options or ServerOptions(),
            arguments=tuple(etcd_args),
            peer_urls=self._peer_urls,
            joining=self._cluster_to_join,
            on_start=self._note_start,
            environment={VARIABLE: NODE_ADDRESS} if has_points else {},
            entrance=lambda node: self._disks.entrance(node),
            settle=lambda nodes: self._disks.settle(nodes),
        )
        self._reached: dict[str, Node] = {}
        self._occupation: Occupation | None = None
        self._connections = MemberConnections(self.nodes, self._endpoint, operators)
        self._strangers = self.connections()
        self._agents = NodeAgents(self._members)
        self._disks = RemoteDisks(
            self._members,
            self._agents,
            is_asked=Disk in demands,
            refusal=facts.disk,
            kill=self._process.kill,
        )
        patcher = RemotePatcher(self._members, self._agents, facts.clock)
        self._clocks = ProcessClocks(self.nodes, patcher, self._endpoint)
        self._resources = RemoteResources(
            self.nodes,
            self._members,
            self._agents,
            throttle=hosts.throttle,
            no_agent=facts.agent,
            note=lambda: self._describe(is_open=True),
        )
        self._links = NamespaceLinks(dict.fromkeys(self.nodes, ""), self._packets, facts.qdiscs, self._run)
        self._capabilities: dict[type[Any], object] = {
            Process: self._process,
            Disk: self._disks.steering,
            Damage: RemoteDamage(
                self._members,
                self._agents,
                no_agent=facts.agent,
                settle=self._disks.settle,
                snapshot_count=snapshot_count(etcd_args, None if options is None else options.snapshot_count),
            ),
            Logs: self._process,
            Data: self._process,
            Links: self._links,
            Clock: self._clocks,
            Resources: self._resources,
        }
        if has_points and facts.agent is None:
            self._capabilities[Failpoints] = GofailPoints(through(self._agents))
        others = [_there(each) for each in self.other_binaries]
        versions = BinaryVersions(self._members, others, self._connections)
        if versions.can_change:
            self._capabilities[Versions] = versions
        self._is_up = False

    @property
    def name(self) -> str:
        """What the hosts make of it: compose, ssh."""
        return self._hosts.name

    @property
    def hosts(self) -> Hosts:
        """Whoever has the nodes."""
        return self._hosts

    @property
    def versions(self) -> dict[str, str]:
        """Every node's etcd version."""
        return {name: member.etcd.version for name, member in self._members.items()}

    @property
    def binaries(self) -> dict[str, Etcd]:
        """Every node's etcd binary, by its path on the node."""
        return {name: member.etcd for name, member in self._members.items()}

    @property
    def given(self) -> Mapping[str, Etcd]:
        """The binaries of this machine that are brought to the nodes."""
        return self._given

    def _endpoint(self, node: str) -> str:
        if node not in self._reached:
            raise EnvironmentFailure(f"{node} is not reached yet: bring the cluster up first")
        return self._reached[node].endpoint

    def connections(self, options: ConnectionOptions | None = None) -> MemberConnections:
        """Fresh connections to every node, for whoever closes them (a binding); may be made before ``up``."""
        return MemberConnections(self.nodes, self._endpoint, plain if options is None else lambda: options)

    def capability(self, kind: type[C]) -> C | None:
        """See ``Cluster.capability``."""
        if kind not in self._capabilities and kind in (Roles, Health, Admin, Members, Upkeep, Auth, Archivist):
            from splitvote.harness.etcd.capabilities import of_members
            from splitvote.harness.etcd.upkeep import EtcdAuth

            self._capabilities |= of_members(self._connections, self._peer_urls)
            self._capabilities[Auth] = EtcdAuth(self._connections, self._strangers)
        return cast("C | None", self._capabilities.get(kind))

    def _need(self, kind: type[C]) -> C:
        capability = self.capability(kind)
        assert capability is not None
        return capability

    async def _cluster_to_join(self, node: str) -> Mapping[str, str] | None:
        """Whom a node without data finds: those who are members now, once the cluster is up."""
        if not self._is_up:
            return None
        from splitvote.harness.etcd.membership import EtcdMembers

        return await EtcdMembers(self._connections, self._peer_urls).cluster_to_join(node)

    async def __aenter__(self) -> RemoteCluster:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Bring the nodes up where they are down, start the members, and wait until all serve.

        Raises EnvironmentFailure, with a member's own words, when it does not
        come up; nothing is left running then.
        """
        if self._is_up:
            return
        try:
            await self._come_up()
        except BaseException:
            await self.down()
            raise
        self._is_up = True

    async def _come_up(self) -> None:
        try:
            await heal_nodes(self.directory)
            earlier = NODES.read(self.directory)
            if earlier is not None and earlier.is_open:
                raise EnvironmentFailure(f"{self.directory} is in use by pid {earlier.harness.pid}: take another one")
            self.directory.mkdir(parents=True, exist_ok=True)
            self._reached = dict(await self._hosts.open(lambda: self._describe(is_open=True)))
            await self._occupy()
            await self._disks.open()
            await on_all(self._members, lambda name, member: self._process.start(name))
        except (OSError, NemesisError) as failure:
            raise EnvironmentFailure(f"the cluster cannot be started: {failure}") from None
        await await_ready(
            self.nodes,
            self._connections,
            roles=self._need(Roles),
            health=self._need(Health),
            check=self._check_members,
            words_of=self._words_of,
            timeout_s=self._ready_timeout_s,
        )
        assert self._occupation is not None
        self._occupation.follow_logs()
        # Channels dialled members that did not listen yet: those still backing off would fail healthy calls.
        await self._connections.close()
        await self._disks.settle()  # a cluster that was found to serve is there for good

    async def _occupy(self) -> None:
        """Make the nodes ready for the members: folders, binaries, counted links."""
        self._occupation = occupation = Occupation(
            self._reached, token=self._token, owner=self._owner, packets=self._packets, directory=self.directory
        )
        for name, member in self._members.items():
            member.place(occupation.daemons[name], self._reached[name])
            self._peer_urls[name] = member.peer_url
        await occupation.claim()
        await on_all(self._reached, self._bring_binaries)
        await occupation.send_single_packets()
        await self._links.begin(
            {name: node.address for name, node in self._reached.items()},
            {name: node.interface for name, node in self._reached.items()},
        )

    async def _bring_binaries(self, name: str, node: Node) -> None:
        """Bring this machine's binaries to a node that has them not."""
        mine = [self._given[name]] if name in self._given else []
        for etcd in (*mine, *self.other_binaries):
            path = str(_there(etcd).path)
            looked = await node.remote.sh(_HAS_FILE, path, account="root", expected=(0, _MISSING))
            if looked.status == _MISSING:
                await node.remote.upload(etcd.path, path, mode=0o755, account="root")

    async def _note_start(self, node: str) -> None:
        """A member's process has begun: it has its node's limits and clocks."""
        await self._resources.apply(node)
        await self._clocks.note_change(node)

    async def _run(self, work: Work) -> dict[str, list[str]]:
        """Run commands on the nodes, one after the other on each, at the same time on all."""

        async def do(name: str, todo: Sequence[tuple[list[str], str]]) -> list[str]:
            remote = self._reached[name].remote
            return [(await remote.run(command, stdin=text.encode(), account="root")).text for command, text in todo]

        return await on_all(work, do)

    async def _check_members(self) -> None:
        """Say why a member has ended, if one has."""
        for name in self.nodes:
            if await self._process.state(name) is ProcessState.STOPPED:
                raise EnvironmentFailure(f"{name} ended as soon as it was started; {await self._words_of(name)}")

    async def _words_of(self, node: str) -> str:
        member = self._members[node]
        await fetch_log(member.daemon, member.log)
        return f"{node} (log: {member.log}) said: {last_words(member.log)}"

    async def down(self) -> None:
        """End every member, fetch logs and data, take away what is ours, and leave the nodes as they were found.

        Idempotent.  Raises EnvironmentFailure when something could not be taken
        away: ``splitvote heal`` tries again; and when a disk of ours was gone
        before: what clients saw of the cluster since then says nothing of it.
        """
        was_up, self._is_up = self._is_up, False
        trouble = await self._disks.trouble() if was_up else None
        occupation, self._occupation = self._occupation, None
        failures: list[Exception] = []
        try:
            clear = [] if occupation is None else [occupation.clear]
            for step in (self._resources.close, self._let_go, *clear, self._disks.close):
                try:
                    await step()
                except (NemesisError, OSError) as problem:
                    failures.append(problem)
        finally:
            self._links.end()
            await self._connections.close()
            await self._strangers.close()
        if failures:
            await self._hosts.let_go()
            raise EnvironmentFailure(f"the nodes are not as they were: {failures[0]}; `splitvote heal` tries again")
        await self._hosts.close()
        if self.directory.exists():
            self._describe(is_open=False)
        if trouble is not None:
            raise EnvironmentFailure(f"while the cluster was up, {trouble}")

    async def _let_go(self) -> None:
        """Ask no agent any more; a patch that could not be taken out goes with its process, which is ended next."""
        with contextlib.suppress(NemesisError):
            await self._clocks.close()
        await self._agents.close()

    def _describe(self, *, is_open: bool) -> None:
        """Write down what there is to be undone."""
        description = NodesDescription(
            harness=ProcessRecord(os.getpid(), started(os.getpid()), ""),
            hosts=self._hosts.described(),
            token=self._token,
            owner=self._owner,
            packets=self._facts.filters[0],
            is_open=is_open,
            limits=self._resources.noted,
        )
        NODES.write(self.directory, description)


def _there(etcd: Etcd) -> Etcd:
    """A binary of this machine as it will be on the nodes: named by its content."""
    import hashlib

    with etcd.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Etcd(Path(f"{ROOT}/bin/{digest[:_DIGEST_CHARACTERS]}/etcd"), etcd.version, etcd.number)


async def heal_nodes(directory: Path) -> list[str]:
    """Undo what a killed harness left on the nodes of the run in ``directory``; what was done, a line each.

    Nodes whose harness still runs are left alone.  Idempotent; NemesisError when
    something could not be undone.
    """
    description = NODES.read(Path(directory))
    if description is None or not description.is_open:
        return []
    if description.harness.is_alive():
        return [f"left alone: its harness (pid {description.harness.pid}) still runs"]
    hosts = hosts_of(description.hosts)
    lifted: list[str] = []
    failure: NemesisError | None = None
    try:
        try:
            lifted = [] if hosts.throttle is None else await hosts.throttle.lift(description.limits)
        except NemesisError as problem:
            failure = problem  # all else is undone even so
        nodes = await hosts.reach()
        occupation = Occupation(
            nodes,
            token=description.token,
            owner=description.owner,
            packets=FILTERS[description.packets],
            directory=Path(directory),
        )
        done = await occupation.clear()
        if failure is not None:
            raise failure
    except BaseException:
        await hosts.let_go()  # what is of ours is still there, and what could not be fetched with it
        raise
    await hosts.close()
    NODES.write(Path(directory), description.closed())
    return [*lifted, *done, f"the nodes ({hosts.name}) are as they were found"]
