"""One watch operation: streams with their watches, opened, cut and resumed as its plan says.

However a stream (``following``) ends, the next one takes each watch up after
the last revision that it was told of, by event or progress, as etcd's own
clients do; a watch that was ended as compacted goes on at the compact revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Final

from splitvote.checkers.watch.plan import PREFIX, Watched, WatchPlan, plan_of
from splitvote.harness.client import Emit
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.bindings.following import Following, Place, agenda_of
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import RANGE
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

ASK_BOUND_S: Final = 5.0
"""How long to ask for the newest revision; the members have recovered by then."""


class Horizon:
    """The newest revision and the newest compaction that any client has heard of."""

    def __init__(self) -> None:
        self.newest = 1
        self.compacted = 0

    def note_revision(self, revision: int) -> None:
        """A header's revision."""
        self.newest = max(self.newest, revision)

    def note_compaction(self, revision: int) -> None:
        """A compaction that was acknowledged, or told of."""
        self.compacted = max(self.compacted, revision)

    def start_of(self, watched: Watched) -> int:
        """The revision at which such a watch begins if it is opened now; 0 is from now on."""
        if watched.start == "now":
            return 0
        if watched.start == "future":
            return self.newest + watched.by
        if watched.start == "past" or not self.compacted:
            return max(1, self.newest - watched.by)
        return self.compacted if watched.start == "compaction" else max(1, self.compacted - watched.by)


async def watch(op: Op, emit: Emit, services: Services, node: str, horizon: Horizon) -> Op:
    """Carry out the plan of a ``watch``: ok if any watch was created, fail otherwise."""
    watching = Watching(op, emit, services, node, horizon, count())
    await watching.run()
    if watching.has_begun:
        return op.completed("ok", value=None, node=node)
    return op.completed("fail", error=watching.last_error or "silent: no watch was created in time", node=node)


async def converge(op: Op, emit: Emit, services: Services, node: str, horizon: Horizon) -> Op:
    """Have every member tell everything up to the newest revision, or until the plan's time is over.

    The answer is that revision and the members.
    """
    try:
        newest = await _newest_revision(services, node)
    except TransportError as error:
        return op.completed("fail", error=classify(error, "read").text, node=node)
    horizon.note_revision(newest)
    numbers = count()
    members = services.names or (node,)
    each = [Watching(op, emit, services, member, horizon, numbers, until=newest) for member in members]
    await asyncio.gather(*(watching.run() for watching in each))
    return op.completed("ok", value=[newest, list(members)], node=node)


async def _newest_revision(services: Services, node: str) -> int:
    """The store's newest revision, by a linearizable read; TransportError when none is answered in time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + ASK_BOUND_S
    request = pb.RangeRequest(key=PREFIX.encode(), count_only=True)
    while True:
        try:
            answer = await services.nodes[node].unary(RANGE, request, timeout_s=services.timeout_s)
        except TransportError:
            if loop.time() > end_s:
                raise
            await asyncio.sleep(UNREACHABLE_PAUSE_S)
        else:
            return answer.header.revision


class Watching:
    """One plan on the members from ``node`` on; ``until`` ends it once every watch was told everything up to there."""

    def __init__(
        self,
        op: Op,
        emit: Emit,
        services: Services,
        node: str,
        horizon: Horizon,
        numbers: Iterator[int],
        until: int | None = None,
    ) -> None:
        self._op = op
        self._emit = emit
        self._services = services
        self._horizon = horizon
        self._numbers = numbers
        self._until = until
        self._plan: WatchPlan = plan_of(op.value)
        names = services.names or (node,)
        first = names.index(node) + self._plan.member
        self._names = [names[(first + step) % len(names)] for step in range(len(names))]
        self._places = [Place(horizon.start_of(self._plan.watched(number))) for number in range(self._plan.count)]
        self.last_error: str | None = None

    @property
    def has_begun(self) -> bool:
        """Whether any watch was created."""
        return any(place.was_created for place in self._places)

    async def run(self) -> None:
        """Follow one stream after another until the time is over, or nothing is left to wait for."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._plan.for_s
        agenda = agenda_of(self._plan, loop.time())
        turn = 0
        while loop.time() < end_s:
            node = self._names[turn % len(self._names)]
            following = Following(self._plan, self._places, agenda, end_s, self._until)
            number = next(self._numbers)

            def emit(value: list[object], revision: int | None, node: str = node, number: int = number) -> None:
                self._note(value, revision)
                self._emit(self._op.completed("event", value=value, revision=revision, stream=number, node=node))

            try:
                ended = await following.run(self._services.nodes[node], emit)
            except TransportError as error:
                ended = self.last_error = classify(error, "read").text
                await asyncio.sleep(UNREACHABLE_PAUSE_S)
            if ended is None:
                return
            emit(["ended", ended], None)
            turn += self._plan.resume == "next"

    def _note(self, value: list[object], revision: int | None) -> None:
        """Learn how far the store has got, and how far it is compacted."""
        if revision is not None:
            self._horizon.note_revision(revision)
        if value[0] == "canceled" and isinstance(value[2], int):
            self._horizon.note_compaction(value[2])
