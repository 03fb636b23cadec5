"""One node of a simulated cluster: its disk and clock, and the process that runs on them, or does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Final

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.cluster import ProcessState
from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.simulation import reconfiguration
from splitvote.harness.simulation.calls import Door, Path
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.clocks import NodeClocks
from splitvote.harness.simulation.disk import Death, Disk, Loss
from splitvote.harness.simulation.interface import MemberInfo
from splitvote.harness.simulation.logs import NodeLog
from splitvote.harness.simulation.messages import MEMBER_BYTES, ConfChange, ConfState, Entry, RaftSnapshot
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.mvcc import Backend
from splitvote.harness.simulation.options import ServerOptions
from splitvote.harness.simulation.peers import Transport
from splitvote.harness.simulation.process import Process
from splitvote.harness.simulation.server import Seat, Server

START_S: Final = 0.05
_SLOWEST_START_S: Final = 0.2

_EMPTY: Final = RaftSnapshot(0, 0, ConfState(()), ())
"""Where every log begins."""


class SimulatedNode:
    """A place for one member; ``founders`` are the members with which the cluster began, this one among them."""

    def __init__(
        self,
        *,
        loop: VirtualLoop,
        seed: int,
        number: int,
        cluster_id: int,
        founders: Sequence[MemberInfo],
        transport: Transport,
        options: ServerOptions,
        log_path: FilePath,
        mutants: Mutants,
    ) -> None:
        info = founders[number - 1]
        self.name = info.name
        self.member_id = info.id
        self.clocks = NodeClocks(loop, self._clock_was_set)
        self.log = NodeLog(log_path, self.clocks.wall)
        self.process: Process | None = None
        self.server: Server | None = None
        self._loop = loop
        self._number = number
        self._cluster_id = cluster_id
        self._founders = founders
        self._transport = transport
        self._options = options
        self._mutants = mutants
        self._starts = 0
        self._chance = Chance(seed, f"node {self.name}")
        self._disk_chance = Chance(seed, f"disk {self.name}")
        self._raft_chance = Chance(seed, f"raft {self.name}")
        self.door = Door(Path(loop, Chance(seed, f"clients of {self.name}")))
        self._exits: asyncio.Future[None] | None = None
        self.disk = self._new_disk(founders)
        self.is_blank = False
        """Whether its data was wiped, and it has not joined anew."""

    def _new_disk(self, founders: Sequence[MemberInfo]) -> Disk:
        """A disk as etcd makes it at the first start: founders begin with each other, whoever joins with nothing."""
        entries = [
            Entry(1, index, ConfChange(0, "add", founder), MEMBER_BYTES) for index, founder in enumerate(founders, 1)
        ]
        return Disk(self._loop, self._disk_chance, Backend(), snapshot=_EMPTY, entries=entries)

    @property
    def state(self) -> ProcessState:
        """What the process does."""
        return ProcessState.STOPPED if self.process is None else self.process.state

    @property
    def is_listening(self) -> bool:
        """Whether peers can connect."""
        return self.server is not None and self.server.is_listening

    # Starting

    def start(self) -> None:
        """Start a process on what is on the disk; does nothing when one runs."""
        if self.process is not None:
            return
        if self.is_blank:
            raise NemesisError(f"{self.name} has no data: it must join as a member that was added for it")
        self._starts += 1
        seat = Seat(
            cluster_id=self._cluster_id,
            member_id=self.member_id,
            node=self.name,
            number=self._number,
            incarnation=self._starts,
            client_url=f"http://{self.name}:2379",
        )
        process = self.process = Process(self._loop, self.clocks.monotonic, self.name)
        process.on_panic = partial(self._panicked, process)
        server = self.server = Server(
            seat=seat,
            options=self._options,
            process=process,
            disk=self.disk,
            chance=self._raft_chance,
            transport=self._transport,
            door=self.door,
            log=self.log,
            mutants=self._mutants,
        )
        self._exits = self._loop.create_future()
        process.spawn(self._live(process, server), "server")

    async def _live(self, process: Process, server: Server) -> None:
        await process.sleep(START_S + self._chance.part() * _SLOWEST_START_S)
        if (refusal := self.disk.refusal) is None:
            await server.run()
        else:
            self.log.write("fatal", "failed to read the write-ahead log or the snapshot", error=refusal)
        if self.process is process:
            self._gone("kill")

    def _panicked(self, process: Process, words: str) -> None:
        self.log.write("panic", words)
        if self.process is process:
            self._gone("kill")

    def _gone(self, death: Death) -> Loss | None:
        """The process is no more; what that lost."""
        process, self.process, self.server = self.process, None, None
        assert process is not None
        assert self._exits is not None
        self.door.close()
        process.end()
        lost = self.disk.died(death)
        if lost is not None:
            self.log.write("warn", "repaired the write-ahead log", lost=str(lost))
            if lost.entries:
                self._mutants.fires("ack-before-fsync")
        if not self._exits.done():
            self._exits.set_result(None)
        return lost

    # Ending

    def kill(self, death: Death = "kill") -> Loss | None:
        """End the process at once; tells what was lost, if anything was."""
        return None if self.process is None else self._gone(death)

    async def stop(self) -> None:
        """End it in order: a leader hands over first."""
        process, server, exits = self.process, self.server, self._exits
        if process is None or server is None or exits is None:
            return
        process.resume()
        if not server.is_listening:  # it has only begun to start
            self.kill()
            return
        await self._hand_over(server)
        if self.process is process:
            server.stop()
            await exits

    async def _hand_over(self, server: Server) -> None:
        """Transfer the lead to the first voter that can be reached, as far as that is possible."""
        if not server.is_leader:
            return
        for voter in server.node.raft.voters:
            if voter != server.member_id and self._transport.is_connected(voter):
                try:
                    await reconfiguration.move_leader(server, voter)
                except TransportError as failure:
                    self.log.write("warn", "failed to transfer leadership", error=failure.message)
                return

    def pause(self) -> None:
        """Suspend it; raises NemesisError when it does not run."""
        if self.process is None:
            raise NemesisError(f"{self.name} cannot be paused: it does not run")
        self.process.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self.process is not None:
            self.process.resume()

    def wipe(self) -> None:
        """Begin with an empty disk; what is wrong with the disk itself stays as it is."""
        if self.process is not None:
            raise NemesisError(f"{self.name} runs: stop it before its data is wiped")
        fault, self.disk = self.disk.fault, self._new_disk(())
        if fault is not None:
            self.disk.impair(fault)
        self.is_blank = True

    def join(self, member_id: int) -> None:
        """Be, from the next start on, the member that was added for this node, whose data is empty."""
        self.member_id = member_id
        self.is_blank = False

    def _clock_was_set(self) -> None:
        if self.process is not None:
            self.process.clock_was_set()

    # The network's end

    def receive(self, envelope: tuple[int, Any]) -> None:
        """Take what a peer sent to the member ``envelope[0]``."""
        process, server = self.process, self.server
        if process is None or server is None or not server.is_listening or envelope[0] != self.member_id:
            return
        process.deliver(server.rafthttp.receive, envelope[1])
