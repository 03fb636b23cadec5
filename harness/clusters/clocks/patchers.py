"""Who patches the clocks of nodes' processes: the seam under the capability Clock, and the one for this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.clocks.vdso import Course, PatchedProcess, is_patched, reason_against
from splitvote.harness.clusters.processes import state_of


class Patcher(Protocol):
    """What is done to processes; a pid is as ``pid_of`` told it, and a process that is gone is no error.

    Courses are on the scale of *this* machine's clocks.  What is asked for one
    node is done in the order in which it was asked for, be the asker cancelled
    meanwhile.  Raises NemesisError when something cannot be done.
    """

    @property
    def refusal(self) -> str | None:
        """Why no process can be patched, in words; None if they can."""
        ...

    async def pid_of(self, node: str) -> int | None:
        """The pid of the node's process; None when it has none."""
        ...

    async def state(self, node: str) -> ProcessState:
        """What the operating system says of the node's process."""
        ...

    async def steer(self, node: str, pid: int, *, wall: Course, monotonic: Course) -> Course | None:
        """Have its clocks go like this, patching it where that was not done; None when it is gone.

        Monotonic time does not go back for it (``Course.onward``): tells how it
        goes now.
        """
        ...

    async def courses(self, node: str, pid: int) -> tuple[Course, Course] | None:
        """How a patched process's wall and monotonic clock go; None for one that nobody patched."""
        ...

    async def release(self, node: str, pid: int) -> None:
        """Take the patch out."""
        ...


class LocalPatcher:
    """Processes of this machine, patched by this one; ``pid_of`` tells a node's.

    Nothing here lets other tasks run, lest they suspend or resume a process that
    is just being patched.
    """

    def __init__(self, pid_of: Callable[[str], int | None]) -> None:
        self._pid_of = pid_of
        self._patched: dict[int, PatchedProcess] = {}
        self._refusal: str | None = None
        self._is_tried = False

    @property
    def refusal(self) -> str | None:
        """See ``Patcher``; tried at the first look."""
        if not self._is_tried:
            self._refusal = reason_against()
            self._is_tried = True
        return self._refusal

    async def pid_of(self, node: str) -> int | None:
        """See ``Patcher``."""
        return self._pid_of(node)

    async def state(self, node: str) -> ProcessState:
        """See ``Patcher``."""
        pid = self._pid_of(node)
        return ProcessState.STOPPED if pid is None else state_of(pid)

    async def steer(self, node: str, pid: int, *, wall: Course, monotonic: Course) -> Course | None:
        """See ``Patcher``."""
        try:
            return self._process(pid).steer_onward(wall=wall, monotonic=monotonic)
        except ProcessLookupError:
            await self.release(node, pid)
            return None

    async def courses(self, node: str, pid: int) -> tuple[Course, Course] | None:
        """See ``Patcher``."""
        try:
            return self._process(pid).courses if is_patched(pid) else None
        except ProcessLookupError:
            return None

    async def release(self, node: str, pid: int) -> None:
        """See ``Patcher``."""
        process = self._patched.pop(pid, None)
        if process is not None:
            process.close()

    def _process(self, pid: int) -> PatchedProcess:
        if pid not in self._patched:
            self._patched[pid] = PatchedProcess.of(pid)
        return self._patched[pid]
