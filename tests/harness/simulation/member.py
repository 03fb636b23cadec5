"""A member without raft: what it proposes is applied at once.

It lets the machine and the services be tested alone, and is a cluster of one
that has nothing to agree on with anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import LEASE_KEEP_ALIVE, Method
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.interface import Command, LeaseCheckpoint, MemberInfo, Outcome
from splitvote.harness.simulation.local_rpc import LocalRpc
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.mvcc import Backend, Machine, MachineOptions
from splitvote.harness.simulation.services import Services

MEMBER_ID = 0x8E9E05C52164694D
CLUSTER_ID = 0xCDF818194E3A8C32


class LoopClock:
    """The running loop's time as a process's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.slept_s = 0.0

    def now_s(self) -> float:
        return self._loop.time() + self.slept_s

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, callback, *args)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class Member:
    """The host of a machine and the core of its services, in one; leads from the beginning."""

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        mutants: Mutants | None = None,
        options: MachineOptions | None = None,
        election_timeout_s: float = 1.0,
    ) -> None:
        self.clock = LoopClock()
        self.mutants = mutants or Mutants()
        self.cluster_id, self.member_id = CLUSTER_ID, MEMBER_ID
        self.leader_id = MEMBER_ID
        self.term = 2
        self.is_learner = False
        self.election_timeout_s = election_timeout_s
        self.tasks: list[asyncio.Task[None]] = []
        self.revoked: list[list[int]] = []
        self.is_awaited = True
        self.checkpoints: list[LeaseCheckpoint] = []
        self.leader: Member | None = None
        self.backend = backend if backend is not None else Backend()
        self.machine = Machine(self, self.backend, options)
        self.committed_index = self.machine.consistent_index
        self._next_id = 7587000000000000
        self.machine.start()
        self.machine.promote_lessor(0.0)
        self.machine.resume_compactor()
        self.services = Services(self)
        self.rpc = LocalRpc(self, self.services)

    # ---- the host of the machine

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks = [other for other in self.tasks if not other.done()] + [task]
        return task

    def revoke_expired(self, leases: Sequence[int]) -> None:
        self.revoked.append(list(leases))
        for lease in leases:
            self.do(pb.LeaseRevokeRequest(ID=lease))

    def checkpoint(self, leases: LeaseCheckpoint) -> None:
        self.checkpoints.append(leases)
        self.do(leases)

    def awaits(self, command_id: int) -> bool:
        return self.is_awaited

    def compact(self, revision: int) -> None:
        self.do(pb.CompactionRequest(revision=revision))

    # ---- the core of the services

    @property
    def applied_index(self) -> int:
        return self.machine.consistent_index

    @property
    def database_bytes(self) -> int:
        return self.backend.size_bytes

    def do(self, request: Any) -> Outcome:
        """Commit and apply one command."""
        self.committed_index += 1
        outcome = self.machine.apply(self.committed_index, Command(self.committed_index, request))
        assert outcome is not None
        return outcome

    def answer(self, request: Any) -> Any:
        """The answer to a command; raises what it is refused with."""
        outcome = self.do(request)
        if outcome.error is not None:
            raise outcome.error
        return outcome.answer

    async def propose(self, request: Any) -> Outcome:
        return self.do(request)

    async def read_index(self) -> None:
        """Everything is applied already."""

    def next_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def defragment(self) -> None:
        self.backend.defragment()

    async def move_leader(self, target_id: int) -> None:
        self.leader_id = target_id
        self.machine.demote_lessor()

    def members(self) -> tuple[MemberInfo, ...]:
        return (MemberInfo(self.member_id, "n1", ("http://127.0.0.1:2380",), ("http://127.0.0.1:2379",)),)

    async def add_member(self, peer_urls: Sequence[str], *, is_learner: bool) -> MemberInfo:
        raise NotImplementedError

    async def remove_member(self, member_id: int) -> None:
        raise NotImplementedError

    async def promote_member(self, member_id: int) -> None:
        raise NotImplementedError

    async def update_member(self, member_id: int, peer_urls: Sequence[str]) -> None:
        raise NotImplementedError

    async def forwarded(self, method: Method[Any, Any], request: Any, timeout_s: float) -> Any:
        """Ask the leader, if there is one."""
        if self.leader is None:
            raise TransportError("UNAVAILABLE", "etcdserver: request timed out")
        assert method is LEASE_KEEP_ALIVE or isinstance(request, pb.LeaseTimeToLiveRequest)
        return await self.leader.services.peer(method, request)

    def end(self) -> None:
        """The process ends: its tasks with it, and what is not committed."""
        for task in self.tasks:
            task.cancel()
        self.machine.demote_lessor()
        self.backend.roll_back()
