"""The raft node, in the shape of etcd's raft/node.go: channels into one loop, and Ready values out of it.

Channels
    Proposals go through ``propc``, everything else through ``recvc``.  The loop
    reads ``recvc`` at any time, but ``propc`` only while there is a leader: a
    proposal without one *blocks* until its context ends.
    ``step_with_wait_option`` is the one door: ``wait`` says whether a proposal's
    one-slot result is awaited, too.  Each wait races the caller's context and
    the node's stop.

Loop
    ``_turn`` is one pass of node.run's select.  It runs at once whenever
    something arrives, since whatever arrives in the simulation arrives on the
    event loop, outside of any turn; that saves a task switch for every message.

Ready
    One at a time: what the raft wants done (``Ready``) is handed to
    ``on_ready``, and the next only after ``advance``.  Messages go on being
    stepped meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

from splitvote.harness.simulation.context import Context, StoppedError, fail
from splitvote.harness.simulation.messages import (
    NONE,
    ConfChange,
    ConfState,
    Data,
    Entry,
    HardState,
    Message,
    RaftSnapshot,
    ReadState,
    size_of,
)
from splitvote.harness.simulation.raft import ProposalDroppedError, Raft, Role

MOST_APPLIED_A_READY: Final = 256


class Ready:
    """What is to be done now: ``node`` may go on when it was (raft's Ready)."""

    __slots__ = (
        "committed",
        "entries",
        "hard_state",
        "is_new_leadership",
        "lead",
        "messages",
        "must_sync",
        "read_states",
        "role",
        "snapshot",
    )

    def __init__(self, raft: Raft, before: HardState, *, is_new_leadership: bool) -> None:
        log = raft.log
        self.role: Role = raft.role
        self.lead = raft.lead
        self.is_new_leadership = is_new_leadership
        self.read_states: list[ReadState] = raft.read_states
        self.messages: list[Message] = raft.messages
        self.snapshot: RaftSnapshot | None = log.pending_snapshot
        self.entries: list[Entry] = log.unstable() if log.stable < log.last else []
        self.committed: list[Entry] = []
        if self.snapshot is None and log.committed > log.applied:
            self.committed = log.slice(log.applied + 1, min(log.committed, log.applied + MOST_APPLIED_A_READY))
        is_new_vote = raft.term != before.term or raft.vote != before.vote
        is_news = is_new_vote or log.committed != before.commit
        self.hard_state: HardState | None = raft.hard_state if is_news else None
        self.must_sync = is_new_vote or bool(self.entries)
        raft.read_states = []
        raft.messages = []


class _Proposal:
    __slots__ = ("message", "result")

    def __init__(self, message: Message, result: asyncio.Future[None]) -> None:
        self.message = message
        self.result = result


class Node:
    """One member's raft and the loop around it.

    ``on_ready`` must lead to ``advance``, now or later; messages that come
    alone go to ``send``.
    """

    def __init__(self, raft: Raft, on_ready: Callable[[Ready], None], send: Callable[[list[Message]], None]) -> None:
        self.raft = raft
        self._on_ready = on_ready
        self._send = send
        self._propc: deque[_Proposal] = deque()
        self._hard_state = raft.hard_state
        self._role: Role = raft.role
        self._lead = raft.lead
        self._doing: Ready | None = None
        self._is_turning = False
        self._is_stopped = False

    # Doors

    async def step_with_wait_option(self, context: Context, message: Message, *, wait: bool) -> None:
        """Have a message stepped.

        A proposal returns once it is accepted or, with ``wait``, once it was
        stepped.  Raises the context's error, StoppedError, and with ``wait``
        ProposalDroppedError.
        """
        if self._is_stopped:
            raise StoppedError
        if message.type != "MsgProp":
            self.receive(message)
            return
        result: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        proposal = _Proposal(message, result)
        self._propc.append(proposal)
        self._turn()
        try:
            if not result.done():  # there is no leader
                context.watch(result)
                try:
                    await result
                finally:
                    context.forget(result)
            result.result()
        except ProposalDroppedError:
            if wait:
                raise

    async def propose(self, context: Context, data: Data) -> None:
        """Propose one entry, and wait until it was stepped: dropped, forwarded, or in our own log."""
        entry = Entry(0, 0, data, size_of(data))
        message = Message("MsgProp", source=self.raft.id, entries=(entry,))
        await self.step_with_wait_option(context, message, wait=True)

    def receive(self, message: Message) -> None:
        """Take a message from the network, or one of our own that is no proposal (recvc)."""
        if self._is_stopped:
            return
        if message.type == "MsgProp":
            self._step_dropping(message)
        else:
            self.raft.step(message)
        if not self._is_turning:
            self._turn()

    def read_index(self, context: int) -> None:
        """Ask for the index up to which a read must see; the answer is a read state with this context."""
        self.receive(Message("MsgReadIndex", source=self.raft.id, context=context))

    def tick(self) -> None:
        """A tick of the clock has passed."""
        if not self._is_stopped:
            self.raft.tick()
            self._turn()

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Change the configuration as a committed entry says."""
        conf_state = self.raft.apply_conf_change(change)
        self._turn()
        return conf_state

    def begin(self) -> None:
        """Hand out what was committed before the last stop."""
        self._turn()

    def stop(self) -> None:
        """End every wait with StoppedError, and take nothing more."""
        self._is_stopped = True
        proposals, self._propc = self._propc, deque()
        for proposal in proposals:
            fail(proposal.result, StoppedError())

    # The loop

    def _turn(self) -> None:
        if self._is_turning:
            return
        self._is_turning = True
        raft = self.raft
        try:
            while True:
                if self._propc and raft.lead != NONE:
                    self._take_proposals()
                if self._doing is not None or self._is_stopped:
                    return
                if self._has_more_than_messages():
                    self._hand_out()
                elif raft.messages:
                    messages, raft.messages = raft.messages, []
                    self._send(messages)
                else:
                    return
        finally:
            self._is_turning = False

    def _take_proposals(self) -> None:
        propc = self._propc
        while propc and self.raft.lead != NONE:
            proposal = propc.popleft()
            if proposal.result.done():
                continue
            try:
                self.raft.step(proposal.message)
            except ProposalDroppedError as dropped:
                proposal.result.set_exception(dropped)
            else:
                proposal.result.set_result(None)

    def _step_dropping(self, message: Message) -> None:
        """A proposal that a follower forwarded may be lost without anybody hearing of it."""
        with contextlib.suppress(ProposalDroppedError):
            self.raft.step(message)

    def _has_more_than_messages(self) -> bool:
        """Whether there is a Ready to hand out; one of messages alone needs no disk and no answer."""
        raft = self.raft
        log = raft.log
        kept = self._hard_state
        committed = log.committed
        return (
            committed > log.applied
            or log.stable < log.last
            or committed != kept.commit
            or raft.lead != self._lead
            or raft.role != self._role
            or raft.term != kept.term
            or raft.vote != kept.vote
            or log.pending_snapshot is not None
            or bool(raft.read_states)
        )

    def _hand_out(self) -> None:
        raft = self.raft
        is_new_leadership = raft.lead != self._lead or raft.role != self._role
        ready = Ready(raft, self._hard_state, is_new_leadership=is_new_leadership)
        self._role, self._lead = raft.role, raft.lead
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        self._doing = ready
        self._on_ready(ready)

    def advance(self) -> None:
        """What the last Ready asked for was done."""
        ready, log = self._doing, self.raft.log
        if ready is None:
            return
        self._doing = None
        if ready.committed:
            log.applied = max(log.applied, ready.committed[-1].index)
        if ready.entries:
            log.stable_to(ready.entries[-1].index, ready.entries[-1].term)
        if ready.snapshot is not None and log.pending_snapshot is ready.snapshot:
            log.pending_snapshot = None
            log.applied = max(log.applied, ready.snapshot.index)
        self._turn()
