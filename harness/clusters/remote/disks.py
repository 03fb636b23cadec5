"""The disks of members on remote nodes: a program there (``node_disk``) that serves each, where that was asked for.

What is mounted is seen by the member alone, and is gone with the program, which
ends with the conversation over which it is steered.  A member has no disk then:
it ends, that is our doing, and told as such (``trouble``).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.disks.mounts import AS_ROOT
from splitvote.harness.clusters.disks.steering import UNASKED, DiskSteering
from splitvote.harness.clusters.remote.agents import NodeAgents, Placed
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.control import Conversation, on_all
from splitvote.harness.errors import EnvironmentFailure, NemesisError


class RemoteDisks:
    """``open`` mounts, if ``is_asked``, before any member starts; ``close`` comes after their end.

    ``steering`` is the capability Disk; ``refusal`` is what the nodes themselves
    have against it, ``kill`` ends a node's member at once.
    """

    def __init__(
        self,
        members: Mapping[str, Placed],
        agents: NodeAgents,
        *,
        is_asked: bool,
        refusal: str | None,
        kill: Callable[[str], Awaitable[None]],
    ) -> None:
        self._members = members
        self._agents = agents
        self._is_asked = is_asked
        self._refusal = refusal
        self._conversations: dict[str, Conversation] = {}
        self.steering = DiskSteering(self._ask, kill, lambda: refusal)

    async def open(self) -> None:
        """Mount; raises NemesisError, or EnvironmentFailure where that cannot be."""
        if not self._is_asked:
            return
        if self._refusal is not None:
            raise EnvironmentFailure(f"members' disks cannot be broken: {self._refusal}")
        await on_all(self._members, self._open)

    async def _open(self, node: str, member: Placed) -> None:
        daemon, disk = member.daemon, disk_of(member.daemon)
        program = await self._agents.bring(node)
        await daemon.remote.run(["mkdir", "-p", disk.folder, daemon.data], account="root")
        command = [*program, "--disk", disk.folder, daemon.data]
        self._conversations[node] = await daemon.remote.converse(command, account="root")
        made = await self._ask(node, {"do": "begin"})
        if made["as"] != AS_ROOT:
            raise EnvironmentFailure(f"the disk of {node} is mounted as {made['as']}, where nobody can enter")

    async def entrance(self, node: str) -> list[str]:
        """What a command on the node begins with that is to see the disk, if there is one; raises NemesisError."""
        if node not in self._conversations:
            return []
        found = await disk_of(self._members[node].daemon).look()
        if found.state is ProcessState.STOPPED:
            raise NemesisError(f"the disk of {node} is gone: the connection over which it was steered was lost")
        return ["nsenter", f"--mount=/proc/{found.pid}/ns/mnt", "--"]

    async def trouble(self) -> str | None:
        """Which of the disks is gone though nobody ended it, and why, if any."""
        for node in self._conversations:
            try:
                await self._ask(node, {"do": "begin"})
            except NemesisError as failure:
                return str(failure)
        return None

    async def settle(self, nodes: Sequence[str] | None = None) -> None:
        """Have all that these nodes (None: all) have written on their disks for good, where they have such disks."""
        for node in self._conversations if nodes is None else nodes:
            if node in self._conversations:
                await self._ask(node, {"do": "settle"})

    async def _ask(self, node: str, request: dict[str, Any]) -> dict[str, Any]:
        if node not in self._conversations:
            raise NemesisError(f"the disk of {node} is as it is: {UNASKED}")
        try:
            reply = await self._conversations[node].ask(json.dumps(request).encode())
        except NemesisError as failure:
            raise NemesisError(f"the disk of {node} is out of hand: {failure}") from None
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise NemesisError(f"the disk of {node}: {answer['error']}")
        return answer

    async def close(self) -> None:
        """End the programs, and with them the mounts; idempotent."""
        conversations, self._conversations = self._conversations, {}
        self.steering.forget()
        await on_all(conversations, lambda node, conversation: conversation.close())


_FOLDER: Final = "disk"


def disk_of(daemon: Daemon) -> Daemon:
    """The process behind a member's disk, whose folder is in that of the member's process."""
    return daemon.inner(_FOLDER)
