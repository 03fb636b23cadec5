"""Members that are services on hosts of an inventory: handled by their own commands, and left as they were found.

See ``Ground``: their data is not the harness's, so that nothing that would need
to remove or replace it is done here.  A process is known by the pid that the
host tells, and by its name, since a pidfile may be an old one.  What there is of
ours on a host is what ``occupation`` knows to take away, without a process.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from splitvote.harness.cluster import Links, Process, ProcessState
from splitvote.harness.clusters.attached.attaching import check_allowed
from splitvote.harness.clusters.attached.cluster import AttachedCluster, new_token
from splitvote.harness.clusters.attached.ground import Moved
from splitvote.harness.clusters.attached.survey import Access, survey
from splitvote.harness.clusters.network.namespaces import Work
from splitvote.harness.clusters.network.netlinks import NamespaceLinks
from splitvote.harness.clusters.network.packetfilter import FILTERS
from splitvote.harness.clusters.remote.daemon import Found, read_found
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.clusters.remote.inventory import Inventory, Service
from splitvote.harness.clusters.remote.node_facts import NodeFacts
from splitvote.harness.clusters.remote.occupation import Occupation
from splitvote.harness.clusters.remote.ssh_hosts import SshHosts
from splitvote.harness.control import Remote, on_all
from splitvote.harness.errors import EnvironmentFailure, NemesisError

START_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 40.0
CHANGE_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.05

_LOOK: Final = """
pid=$(sh -c "$1" 2>/dev/null) || exit 0
[ "${pid:-0}" -gt 0 ] 2>/dev/null || exit 0
name=$(cat "/proc/$pid/comm" 2>/dev/null) || exit 0
[ -z "$2" ] || [ "$name" = "$2" ] || exit 0
echo "$pid"; cat /proc/$pid/task/*/stat 2>/dev/null; echo "$name"
"""
_DO: Final = (
    'said=$(mktemp) && sh -c "$1" >"$said" 2>&1 </dev/null; status=$?; cat "$said" >&2; rm -f "$said"; exit $status'
)
"""With its output in a file: a process that it leaves behind would hold up what reads a pipe."""


class ServiceProcess:
    """See ``Process``; ``names`` are what the services' processes were called when they were found."""

    def __init__(
        self, services: Mapping[str, Service], remotes: Mapping[str, Remote], names: Mapping[str, str]
    ) -> None:
        self._services = services
        self._remotes = remotes
        self.names = dict(names)

    async def look(self, node: str) -> tuple[Found, str]:
        """What /proc says of the service's process now, and what it is called."""
        known = self.names.get(node, "")
        said = (await self._remotes[node].sh(_LOOK, self._services[node].pid, known, account="root")).text
        name = said.splitlines()[-1] if said else ""
        return read_found(said), name

    async def _do(self, node: str, line: str, timeout_s: float) -> None:
        await self._remotes[node].sh(_DO, line, account="root", timeout_s=timeout_s)

    async def start(self, node: str) -> None:
        """See ``Process.start``."""
        if (await self.look(node))[0].state is not ProcessState.STOPPED:
            return
        await self._do(node, self._services[node].start, START_TIMEOUT_S)
        await self._until(node, ProcessState.RUNNING, "was started")

    async def stop(self, node: str) -> None:
        """See ``Process.stop``; one that is suspended is resumed, since it could not hear."""
        await self.resume(node)
        await self._end(node, self._services[node].stop)

    async def kill(self, node: str) -> None:
        """See ``Process.kill``."""
        await self._end(node, self._services[node].kill)

    async def _end(self, node: str, line: str) -> None:
        """End it; something may be there that starts it again, which would be no end."""
        before = (await self.look(node))[0]
        if before.state is ProcessState.STOPPED:
            return
        await self._do(node, line, END_TIMEOUT_S)
        now = await self._until(node, ProcessState.STOPPED, f"was to be ended by `{line}`", other_than=before.pid)
        if now.state is not ProcessState.STOPPED:
            raise NemesisError(
                f"{node} is back (pid {now.pid}) as soon as it was ended: something starts it again; its kill and stop "
                "are to keep it down, such as by `systemctl stop`"
            )

    async def pause(self, node: str) -> None:
        """See ``Process.pause``."""
        if (await self._signal(node, "STOP")) is None:
            raise NemesisError(f"{node} cannot be paused: it does not run")
        await self._until(node, ProcessState.PAUSED, "was sent SIGSTOP")

    async def resume(self, node: str) -> None:
        """See ``Process.resume``; does nothing when it does not run."""
        if (await self._signal(node, "CONT")) is not None:
            await self._until(node, ProcessState.RUNNING, "was sent SIGCONT")

    async def _signal(self, node: str, sign: str) -> int | None:
        found = (await self.look(node))[0]
        pid = None if found.state is ProcessState.STOPPED else found.pid
        if pid is not None:
            await self._remotes[node].sh('kill -s "$1" "$2"', sign, str(pid), account="root")
        return pid

    async def state(self, node: str) -> ProcessState:
        """See ``Process.state``."""
        return (await self.look(node))[0].state

    async def wipe(self, node: str) -> None:
        """See ``Process.wipe``: never."""
        raise NemesisError(f"the data of {node} is not the harness's, and is not removed")

    async def _until(self, node: str, wanted: ProcessState, what: str, *, other_than: int | None = None) -> Found:
        """Look until it is in a state, or another process than the one with this pid; raises NemesisError."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + CHANGE_TIMEOUT_S
        while True:
            found = (await self.look(node))[0]
            if found.state is wanted or (other_than is not None and found.pid not in (None, other_than)):
                return found
            if loop.time() > deadline_s:
                raise NemesisError(f"{node} is {found.state}, {CHANGE_TIMEOUT_S:g} s after it {what}")
            await asyncio.sleep(_POLL_S)


class Services:
    """See ``Ground``; ``names`` and ``owner`` are those of an earlier harness that is to be cleaned up after."""

    name: Final = "ssh"

    def __init__(
        self,
        hosts: SshHosts,
        *,
        token: str,
        facts: NodeFacts,
        names: Mapping[str, str] | None = None,
        owner: str | None = None,
    ) -> None:
        self.hosts = hosts
        self.facts = facts
        self._inventory = hosts.inventory
        self._token = token
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}:{token}"
        self._services = {n: host.service for n, host in self._inventory.nodes.items() if host.service is not None}
        self._remotes: dict[str, Remote] = {}
        self._process = ServiceProcess(self._services, self._remotes, names or {})
        self._marks: dict[str, str] = {}
        self._occupation: Occupation | None = None
        self._links: NamespaceLinks | None = None
        if facts.filters:
            places = dict.fromkeys(self._inventory.nodes, "")
            self._links = NamespaceLinks(places, FILTERS[facts.filters[0]], facts.qdiscs, self._run)

    @property
    def words(self) -> str:
        """See ``Ground``."""
        return f"the services of {self._inventory.file}"

    @property
    def forbidden(self) -> Mapping[str, str]:
        """See ``Ground``."""
        from splitvote.nemesis.partitions import KINDS

        if self._links is not None:
            return {}
        why = "the hosts have neither nft nor iptables that work (Links): install nftables there"
        return {"packet": why, **{f"partition:{kind}": why for kind in KINDS if kind != "client"}}

    def endpoints(self) -> Mapping[str, str]:
        """See ``Ground``."""
        return {name: host.client for name, host in self._inventory.nodes.items()}

    def described(self) -> dict[str, Any]:
        """See ``Ground``: those that have a name ran."""
        return {
            "kind": "services",
            "hosts": self.hosts.described(),
            "names": self._process.names,
            "owner": self._owner,
            "filters": list(self.facts.filters),
        }

    async def open(self, moved: Moved) -> None:
        """See ``Ground``: every service must run, or nothing is done."""
        nodes = await self._reach(await self.hosts.open(lambda: None))
        names: dict[str, str] = {}
        for node, (found, name) in (await on_all(self._remotes, lambda node, _: self._process.look(node))).items():
            if found.state is not ProcessState.RUNNING:
                raise EnvironmentFailure(
                    f"{node} answers, but the process of its service is {found.state}: see unit or pidfile in "
                    f"{self._inventory.file}"
                )
            names[node] = name
        assert self._occupation is not None
        await self._occupation.claim()
        self._process.names = names
        self._marks = await on_all(self._remotes, self._mark)
        if self._links is not None:
            await self._occupation.send_single_packets()
            interfaces = {name: node.interface for name, node in nodes.items()}
            await self._links.begin({name: node.address for name, node in nodes.items()}, interfaces)

    async def _reach(self, nodes: Mapping[str, Node]) -> Mapping[str, Node]:
        self._remotes.update({name: node.remote for name, node in nodes.items()})
        self._occupation = Occupation(
            nodes,
            token=self._token,
            owner=self._owner,
            packets=FILTERS[self.facts.filters[0] if self.facts.filters else "nft"],
            directory=None,  # it has no process of ours, and hence neither log nor data
        )
        return nodes

    async def _mark(self, node: str, remote: Remote) -> str:
        """How far its log is."""
        mark = self._services[node].log_mark
        return "" if mark is None else (await remote.sh(mark, account="root")).text.strip()

    async def _run(self, work: Work) -> dict[str, list[str]]:
        async def do(name: str, todo: Sequence[tuple[list[str], str]]) -> list[str]:
            remote = self._remotes[name]
            return [(await remote.run(command, stdin=text.encode(), account="root")).text for command, text in todo]

        return await on_all(work, do)

    def capabilities(self) -> Mapping[type[Any], object]:
        """See ``Ground``."""
        return {Process: self._process}

    @property
    def links(self) -> Links | None:
        """See ``Ground``."""
        return self._links

    async def restore(self) -> list[str]:
        """See ``Ground``: every service that ran runs, and nothing of ours is left."""
        if self._occupation is None:
            await self._reach(await self.hosts.reach())
        assert self._occupation is not None
        lines = await on_all({name: self._remotes[name] for name in self._process.names}, self._restart)
        await self._occupation.clear()
        if self._links is not None:
            self._links.end()
        return [line for line in lines.values() if line is not None]

    async def _restart(self, node: str, remote: Remote) -> str | None:
        was = (await self._process.look(node))[0].state
        if was is ProcessState.PAUSED:
            await self._process.resume(node)
            return f"resumed the service of {node}"
        if was is ProcessState.STOPPED:
            await self._process.start(node)
            return f"started the service of {node}"
        return None

    async def close(self) -> None:
        """See ``Ground``."""
        self._occupation = None
        self._remotes.clear()
        await self.hosts.close()

    async def save_logs(self, folder: Path, since_s: float) -> None:
        """See ``Ground``: since they were opened, by each host's own account."""

        async def save(node: str, remote: Remote) -> None:
            if (line := self._services[node].log) is not None:
                command = ["sh", "-c", line, "sh", self._marks.get(node, "")]
                await remote.save(command, folder / f"{node}.log", account="root")

        await on_all(self._remotes, save)


def service_cluster(
    inventory: Inventory,
    directory: Path,
    workloads: Sequence[str],
    *,
    allowed: Sequence[str] = (),
    avoided: Sequence[str] = (),
    probe: AttachedCluster | None = None,
) -> AttachedCluster:
    """The cluster of an inventory's services, looked at (unless ``probe`` was) but not touched.

    ``avoided`` are known issues that the workloads do not trigger.  Raises
    ConfigError or EnvironmentFailure for what cannot be.
    """
    access = Access(**inventory.access)
    _ = access.options()
    check_allowed(allowed, workloads, avoided)
    token = new_token()
    if probe is not None:
        assert isinstance(probe.ground, Services)
        facts, hosts, seen = probe.ground.facts, probe.ground.hosts, probe.survey
    else:
        hosts = SshHosts(inventory)
        facts = hosts.facts()
        seen = asyncio.run(survey({name: host.client for name, host in inventory.nodes.items()}, access))
    ground = Services(hosts, token=token, facts=facts)
    return AttachedCluster(directory=directory, ground=ground, survey=seen, access=access, token=token, allowed=allowed)


def services_of(described: Mapping[str, Any], token: str) -> Services:
    """The ground that described itself so, to be left as it was found then."""
    from splitvote.harness.clusters.remote import ssh_hosts

    return Services(
        ssh_hosts.hosts_of(described["hosts"]),
        token=token,
        facts=NodeFacts(filters=tuple(described["filters"])),
        names=described["names"],
        owner=described["owner"],
    )
