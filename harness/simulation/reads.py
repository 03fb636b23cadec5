"""Linearizable reads: one batched ReadIndex at a time (etcd's linearizableReadLoop).

Reads that come while a round is under way wait for the next one.  A round asks
raft for the index up to which a read must see, anew every ``RETRY_S``, and ends
when that index is applied here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from splitvote.harness.simulation.context import fail
from splitvote.harness.simulation.interface import Clock
from splitvote.harness.simulation.messages import ReadState
from splitvote.harness.simulation.refusals import LEADER_CHANGED, STOPPED, TIMEOUT, Refusal, error

RETRY_S: Final = 0.5


class ReadIndexLoop:
    """``ask`` sends a ReadIndex with a fresh id; ``applied`` tells the applied index."""

    def __init__(
        self,
        clock: Clock,
        *,
        timeout_s: float,
        next_id: Callable[[], int],
        ask: Callable[[int], None],
        applied: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._next_id = next_id
        self._ask = ask
        self._applied = applied
        self._round: list[asyncio.Future[int]] = []
        self._next: list[asyncio.Future[int]] = []
        self._id = 0
        self._index: int | None = None
        self._began_s = 0.0
        self._asked_s = 0.0
        self._is_stopped = False

    async def read(self) -> int:
        """Wait until everything that was committed when this was called is applied here, up to the index returned.

        Raises TransportError when that cannot be told.
        """
        if self._is_stopped:
            raise error(STOPPED)
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._next.append(waiting)
        if not self._round:
            self._begin()
        return await waiting

    def _begin(self) -> None:
        """Begin a round for those who wait, if anybody does."""
        self._round = [waiting for waiting in self._next if not waiting.done()]
        self._next = []
        if self._round:
            self._id = self._next_id()
            self._index = None
            self._began_s = self._asked_s = self._clock.now_s()
            self._ask(self._id)

    def confirmed(self, state: ReadState) -> None:
        """Raft has answered some ReadIndex."""
        if self._round and self._index is None and state.context == self._id:
            self._index = state.index
            self.index_applied()

    def index_applied(self) -> None:
        """Something was applied."""
        if self._index is not None and self._applied() >= self._index:
            self._end(None)

    def leader_changed(self) -> None:
        """Whoever was asked leads no longer."""
        if self._round and self._index is None:
            self._end(LEADER_CHANGED)

    def committed_in_term(self) -> None:
        """A leader that could not answer before can now (etcd's firstCommitInTermNotify)."""
        if self._round and self._index is None:
            self._ask(self._id)

    def tick(self) -> None:
        """Ask again, or give up, when it is time for that."""
        if not self._round or self._index is not None:
            return
        now_s = self._clock.now_s()
        if now_s - self._began_s >= self._timeout_s:
            self._end(TIMEOUT)
        elif now_s - self._asked_s >= RETRY_S:
            self._asked_s = now_s
            self._ask(self._id)

    def stop(self) -> None:
        """Nobody is answered any more."""
        self._is_stopped = True
        waiting, self._next = self._next, []
        self._round += waiting
        self._end(STOPPED)

    def _end(self, refusal: Refusal | None) -> None:
        done, self._round = self._round, []
        index, self._index = self._index, None
        for waiting in done:
            if refusal is not None:
                fail(waiting, error(refusal))
            elif not waiting.done():
                assert index is not None, "a round ended well before it was confirmed"
                waiting.set_result(index)
        if self._next:
            self._begin()
