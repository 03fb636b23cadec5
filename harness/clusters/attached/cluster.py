"""A running etcd cluster that is somebody else's: hurt as far as its ground allows, and left as it was found.

All that the harness says to the members passes through one proxy, by which
clients can be cut off (``clientlinks``), and below a prefix of its own
(``keyspace``), which is empty before and removed in the end.  What there is to
be undone is in the directory's ``attached.json`` before anything is touched, so
that another process can do it (``heal_attached``)::

    DIRECTORY/attached.json   DIRECTORY/logs/<node>.log (fetched at the end)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from splitvote.harness.cluster import Admin, Archivist, Boundaries, Health, Links, Logs, Roles, Upkeep
from splitvote.harness.clusters.attached.attached_file import ATTACHED, AttachedDescription
from splitvote.harness.clusters.attached.clientlinks import ClientLinks, JoinedLinks
from splitvote.harness.clusters.attached.ground import Ground, Limits
from splitvote.harness.clusters.attached.survey import Access, Survey, host_of
from splitvote.harness.clusters.processes import Children, ProcessRecord
from splitvote.harness.clusters.procfs import started
from splitvote.harness.errors import EnvironmentFailure, NemesisError, TransportError

if TYPE_CHECKING:
    from splitvote.harness.etcd.keyspace import PrefixedRpc
    from splitvote.harness.etcd.rpc import Rpc

C = TypeVar("C")

ROOT_PREFIX: Final = "splitvote/"
"""Everything of ours in somebody else's store is below it, each run's below a name of its own."""

READY_TIMEOUT_S: Final = 15.0
CLEAN_TIMEOUT_S: Final = 30.0
_CALL_TIMEOUT_S: Final = 2.0
_POLL_S: Final = 0.1
_TOKEN_BYTES: Final = 4


def new_token() -> str:
    """What a run is called on the cluster."""
    return f"run-{secrets.token_hex(_TOKEN_BYTES)}"


class AttachedConnections(Mapping[str, "Rpc"]):
    """The seam to every node, below the run's prefix; whoever made it closes it."""

    def __init__(self, nodes: Sequence[str], make: Callable[[str], PrefixedRpc]) -> None:
        self._nodes = tuple(nodes)
        self._make = make
        self._rpcs: dict[str, PrefixedRpc] = {}

    def __getitem__(self, node: str) -> Rpc:
        if node not in self._rpcs:
            self._rpcs[node] = self._make(node)
        return self._rpcs[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    async def close(self) -> None:
        """Close every connection; the next use makes new ones."""
        rpcs, self._rpcs = self._rpcs, {}
        for rpc in rpcs.values():
            await rpc.close()


class AttachedCluster:
    """The members on a ``ground``, as a ``survey`` of it found them; changes nothing before ``up``.

    ``allowed`` are of ``ground.ALLOWABLE``.
    """

    def __init__(
        self,
        *,
        directory: Path,
        ground: Ground,
        survey: Survey,
        access: Access,
        token: str,
        allowed: Sequence[str] = (),
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.ground = ground
        self.survey = survey
        self.access = access
        self.token = token
        self.allowed = tuple(allowed)
        self.prefix = f"{ROOT_PREFIX}{token}/"
        self.nodes = tuple(survey.members)
        self.left_behind: str | None = None
        """What ``down`` could not take away, and `splitvote heal` may."""
        self._ready_timeout_s = ready_timeout_s
        self._hosts: dict[str, str] = {}
        self._base = 0
        self._up_since_s = 0.0
        self._is_up = False
        self._has_store = False
        self._children = Children()
        self._clients = ClientLinks(self.nodes, self._children)
        self._connections = self.connections()
        links = self._clients if ground.links is None else JoinedLinks(self._clients, ground.links)
        self._capabilities: dict[type[Any], object] = {
            Boundaries: Limits(ground.forbidden, self.allowed),
            Links: links,
            Logs: self,
            **ground.capabilities(),
        }

    @property
    def name(self) -> str:
        """What the ground makes of it: compose, attach."""
        return self.ground.name

    @property
    def versions(self) -> dict[str, str]:
        """Every node's etcd version, by its own account."""
        return {name: member.version for name, member in self.survey.members.items()}

    @property
    def words(self) -> Iterator[str]:
        """What was attached to, a line each."""
        leaders = [name for name, member in self.survey.members.items() if member.id == member.leader]
        led = f", {', '.join(leaders)} leads" if leaders else ""
        yield f"attached to {self.ground.words}: {', '.join(self.nodes)}{led}; our keys are below {ROOT_PREFIX}"
        if self.survey.others:
            yield f"  not looked at, for want of an endpoint: {', '.join(self.survey.others)}"

    def connections(self) -> AttachedConnections:
        """Fresh connections to every node, for whoever closes them; may be made before ``up``."""
        return AttachedConnections(self.nodes, self._connect)

    def _connect(self, node: str) -> PrefixedRpc:
        from splitvote.harness.etcd.connection import GrpcRpc
        from splitvote.harness.etcd.keyspace import PrefixedRpc

        options = self.access.options(self._hosts.get(node))
        rpc = GrpcRpc(self._clients.endpoint(node), options)
        member = self.survey.members[node].id
        return PrefixedRpc(rpc, self.prefix.encode(), member=member, may_compact="compact" in self.allowed)

    def log_path(self, node: str) -> Path:
        """See ``Logs``."""
        return self.directory / "logs" / f"{node}.log"

    def capability(self, kind: type[C]) -> C | None:
        """See ``Cluster.capability``."""
        if kind not in self._capabilities and kind in (Roles, Health, Admin, Upkeep, Archivist):
            from splitvote.harness.etcd.capabilities import of_members

            self._capabilities |= of_members(self._connections, base=lambda: self._base)
        return cast("C | None", self._capabilities.get(kind))

    async def __aenter__(self) -> AttachedCluster:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Get in, and see that every member serves and that there is nothing below our prefix.

        Raises EnvironmentFailure where it does not; the cluster is left as it was then.
        """
        if self._is_up:
            return
        await heal_attached(self.directory)
        earlier = ATTACHED.read(self.directory)
        if earlier is not None and earlier.is_open:
            raise EnvironmentFailure(f"{self.directory} is in use by pid {earlier.harness.pid}: take another one")
        self.directory.joinpath("logs").mkdir(parents=True, exist_ok=True)
        self._up_since_s = time.time()
        self._describe(is_open=True)
        self._is_up = True
        try:
            await self._get_in()
        except (OSError, NemesisError) as failure:
            await self.down()
            raise EnvironmentFailure(f"the cluster cannot be attached to: {failure}") from None
        except BaseException:
            await self.down()
            raise

    async def _get_in(self) -> None:
        places = await asyncio.to_thread(self.ground.endpoints)
        self._hosts = {name: host_of(place) for name, place in places.items()}
        await self._clients.open(places, self.directory / "logs" / "clientproxy.log")
        await self.ground.open(self._note_moved)
        health = self.capability(Health)
        assert health is not None
        deadline_s = asyncio.get_running_loop().time() + self._ready_timeout_s
        while unready := await health.unready(self.nodes, timeout_s=_CALL_TIMEOUT_S):
            if asyncio.get_running_loop().time() > deadline_s:
                words = "; ".join(f"{node}: {why}" for node, why in unready.items())
                raise EnvironmentFailure(f"not every member serves, so that nothing could be told of faults: {words}")
            await asyncio.sleep(_POLL_S)
        self._base = await self._look_at_store()
        self._has_store = True
        self._describe(is_open=True)

    async def _look_at_store(self) -> int:
        """The store's revision; nothing may be below our prefix yet."""
        from splitvote.harness.etcd.methods import RANGE
        from splitvote.harness.etcd.stubs import rpc_pb2 as pb

        everything = pb.RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        try:
            answer = await self._connections[self.nodes[0]].unary(RANGE, everything, timeout_s=_CALL_TIMEOUT_S)
        except TransportError as error:
            raise EnvironmentFailure(f"{self.nodes[0]} does not serve: {error}") from None
        if answer.count:
            raise EnvironmentFailure(f"there are {answer.count} keys below {self.prefix} already: they are not ours")
        return answer.header.revision

    async def _note_moved(self, node: str, place: str | None) -> None:
        await self._clients.route(node, place)

    async def down(self) -> None:
        """Leave the cluster as it was found; idempotent.

        Raises EnvironmentFailure when something could not be undone; what of our
        keys could not be removed is in ``left_behind``.
        """
        if not self._is_up:
            return
        self._is_up = False
        try:
            await self.ground.restore()
            if self._has_store:
                self.left_behind = await self._remove_keys()
                self._has_store = False
        except (NemesisError, OSError, TimeoutError) as failure:
            raise EnvironmentFailure(f"the cluster is not as it was: {failure}; `splitvote heal` tries again") from None
        finally:
            with contextlib.suppress(NemesisError, OSError):  # they are for reading, and not to be undone
                await self.ground.save_logs(self.directory / "logs", self._up_since_s)
            await self.ground.close()
            await self._connections.close()
            await self._clients.close()
            self._children.close()
        self._describe(is_open=self.left_behind is not None)

    async def _remove_keys(self) -> str | None:
        """Remove what is below our prefix; why it could not be, if so."""
        try:
            await self._clients.heal()
            for node, place in (await asyncio.to_thread(self.ground.endpoints)).items():
                await self._clients.route(node, place)
        except NemesisError as failure:
            return f"the keys below {self.prefix} ({failure}); `splitvote heal` tries again"
        return await remove_keys(self._connections, self.prefix)

    def _describe(self, *, is_open: bool) -> None:
        """Write down what there is to be undone."""
        description = AttachedDescription(
            harness=ProcessRecord(os.getpid(), started(os.getpid()), ""),
            ground=self.ground.described(),
            token=self.token,
            prefix=self.prefix if self._has_store else None,
            access=self.access,
            is_open=is_open,
        )
        ATTACHED.write(self.directory, description)


async def remove_keys(rpcs: Mapping[str, Rpc], prefix: str) -> str | None:
    """Remove every key that ``rpcs``, which are below a prefix, can see; why that was not possible, if so.

    Members may still be coming back: they are asked again until CLEAN_TIMEOUT_S are over.
    """
    from splitvote.harness.etcd.methods import DELETE_RANGE
    from splitvote.harness.etcd.stubs import rpc_pb2 as pb

    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + CLEAN_TIMEOUT_S
    while True:
        for rpc in rpcs.values():
            try:
                await rpc.unary(
                    DELETE_RANGE, pb.DeleteRangeRequest(key=b"\0", range_end=b"\0"), timeout_s=_CALL_TIMEOUT_S
                )
            except TransportError as error:
                failure = str(error)
            else:
                return None
        if loop.time() > deadline_s:
            return f"the keys below {prefix} ({failure}); `splitvote heal` tries again"
        await asyncio.sleep(_POLL_S)


async def heal_attached(directory: Path) -> list[str]:
    """Leave the cluster that a killed harness had attached to from ``directory``; what was done, a line each.

    One whose harness still runs is left alone.  Idempotent; NemesisError when
    something could not be undone.
    """
    description = ATTACHED.read(Path(directory))
    if description is None or not description.is_open:
        return []
    if description.harness.is_alive():
        return [f"left alone, its harness (pid {description.harness.pid}) still runs"]
    ground = ground_of(description)
    try:
        done = await ground.restore()
    except TimeoutError:
        raise NemesisError(f"{directory}: a container did not start in time; try again") from None
    finally:
        await ground.close()
    if description.prefix is not None:
        places = await asyncio.to_thread(ground.endpoints)
        await _remove_keys_at(places, description.prefix, description.access)
        done.append(f"removed the keys below {description.prefix}")
    ATTACHED.write(Path(directory), description.closed())
    return [*done, f"the cluster ({ground.words}) is as it was found"]


async def _remove_keys_at(places: Mapping[str, str], prefix: str, access: Access) -> None:
    from splitvote.harness.etcd.connection import GrpcRpc
    from splitvote.harness.etcd.keyspace import PrefixedRpc

    def connect(node: str) -> PrefixedRpc:
        return PrefixedRpc(GrpcRpc(places[node], access.options(host_of(places[node]))), prefix.encode())

    rpcs = AttachedConnections(list(places), connect)
    try:
        problem = await remove_keys(rpcs, prefix)
    finally:
        await rpcs.close()
    if problem is not None:
        raise NemesisError(problem)


def ground_of(description: AttachedDescription) -> Ground:
    """The ground that described itself so; raises ConfigError where docker's library is missing."""
    from splitvote.harness.clusters.attached.endpoints import Endpoints
    from splitvote.harness.clusters.attached.project import project_of

    described = description.ground
    if described["kind"] == "project":
        return project_of(described, description.token)
    if described["kind"] == "services":
        from splitvote.harness.clusters.remote.services import services_of

        return services_of(described, description.token)
    return Endpoints(described["places"])
