"""The network between the members, and their clients: every directed link, and whatever is wrong with it.

A healthy link delivers in order, as a TCP connection does.  A cut link delivers
nothing; what is sent over it meanwhile is lost, or held back and delivered when
the cut is healed, as chance has it for each cut: both happen to real
connections, and what comes late is the harder case.  Loss, duplication,
reordering and corruption are faults of a link like delay and rate: of messages
here, since the members have no transport below them that would repair it; a
corrupt one is found by its checksum and lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.cluster import CLIENT, LinkCounter, LinkShape, Pair
from splitvote.harness.errors import NemesisError
from splitvote.harness.simulation.calls import Path, Way
from splitvote.harness.simulation.chance import Chance

LATENCY_NS: Final = 100_000
"""The fastest delivery between two members."""

MOST_HELD: Final = 4096
"""Messages that a link holds back at most, as many as etcd's stream buffers; more are lost."""

MOST_OUT_OF_ORDER_NS: Final = 20_000_000
"""How long a duplicate or an overtaken message is on its way at most."""

_HEALTHY: Final = LinkShape()

Receive = Callable[[Any], object]


class Link:
    """One direction between two nodes; ``receive`` is the destination's."""

    __slots__ = (
        "_armed",
        "_chance",
        "_free_ns",
        "_held",
        "_is_faulty",
        "_last_ns",
        "_latencies_ns",
        "_loop",
        "_queue",
        "_receive",
        "delivered_bytes",
        "is_cut",
        "keeps_what_is_cut",
        "offered_bytes",
        "shape",
    )

    def __init__(self, loop: VirtualLoop, chance: Chance, receive: Receive) -> None:
        self._loop = loop
        self._chance = chance
        self._latencies_ns = chance.latencies_ns(LATENCY_NS, spread=0.6, slowest=12.0)
        self._receive = receive
        self._last_ns = 0
        self._free_ns = 0
        self._armed = 0
        self._held: deque[tuple[Any, int]] = deque()
        self._queue: deque[tuple[int, Any, int]] = deque()
        self.shape = _HEALTHY
        self._is_faulty = False
        self.is_cut = False
        self.keeps_what_is_cut = False
        self.offered_bytes = 0
        self.delivered_bytes = 0

    def send(self, message: Any, size_bytes: int) -> None:
        """Offer a message to the link."""
        self.offered_bytes += size_bytes
        if self.is_cut:
            if self.keeps_what_is_cut and len(self._held) < MOST_HELD:
                self._held.append((message, size_bytes))
            return
        if self._is_faulty or self._queue:
            self._send_faulty(message, size_bytes)
            return
        when_ns = self._loop.now_ns + next(self._latencies_ns)
        if when_ns < self._last_ns:
            when_ns = self._last_ns
        self._last_ns = when_ns
        self._loop.post_at(when_ns, self._arrive, (message, size_bytes))

    def _send_faulty(self, message: Any, size_bytes: int) -> None:
        chance, shape = self._chance, self.shape
        if shape.duplicate and chance.part() < shape.duplicate:
            self._send_out_of_order(message, size_bytes)
        if shape.reorder and chance.part() < shape.reorder:
            self._send_out_of_order(message, size_bytes)
        else:
            self._send_shaped(message, size_bytes)

    def _send_out_of_order(self, message: Any, size_bytes: int) -> None:
        when_ns = self._loop.now_ns + int(self._chance.part() * MOST_OUT_OF_ORDER_NS)
        self._loop.post_at(when_ns, self._arrive, (message, size_bytes))

    def _arrive(self, what: tuple[Any, int]) -> None:
        message, size_bytes = what
        self.delivered_bytes += size_bytes
        self._receive(message)

    # Shaped links keep a queue, whose times are computed anew when the shape changes.

    def _send_shaped(self, message: Any, size_bytes: int) -> None:
        shape = self.shape
        if shape.loss and self._chance.part() < shape.loss:
            return
        if shape.corrupt and self._chance.part() < shape.corrupt:
            return
        if len(self._queue) >= MOST_HELD:
            return
        self._queue.append((self._due_ns(size_bytes), message, size_bytes))
        if len(self._queue) == 1:
            self._arm()

    def _due_ns(self, size_bytes: int) -> int:
        """When a message that is sent now arrives, after all that were sent before it."""
        shape = self.shape
        start_ns = max(self._loop.now_ns, self._free_ns)
        if shape.rate_bytes_s:
            start_ns += int(size_bytes / shape.rate_bytes_s * 1e9)
            self._free_ns = start_ns
        delay_ms = shape.delay_ms + shape.jitter_ms * (2.0 * self._chance.part() - 1.0)
        self._last_ns = max(self._last_ns, start_ns + max(0, int(delay_ms * 1e6)) + next(self._latencies_ns))
        return self._last_ns

    def _arm(self) -> None:
        self._armed += 1
        self._loop.post_at(self._queue[0][0], self._arrive_first, self._armed)

    def _arrive_first(self, armed: int) -> None:
        if armed != self._armed:
            return
        _, message, size_bytes = self._queue.popleft()
        if self._queue:
            self._arm()
        self._arrive((message, size_bytes))

    def reshape(self, shape: LinkShape) -> None:
        """Have these faults and no others from now on; what is under way goes on under them."""
        self.shape = shape
        self._is_faulty = shape != _HEALTHY
        self._free_ns = 0
        self._last_ns = self._loop.now_ns
        waiting = self._queue
        self._queue = deque((self._due_ns(size), message, size) for _, message, size in waiting)
        if self._queue:
            self._arm()

    def cut(self) -> None:
        """Deliver nothing from now on."""
        if not self.is_cut:
            self.is_cut = True
            self.keeps_what_is_cut = self._chance.part() < 0.5
            self._armed += 1
            self._held.extend((message, size) for _, message, size in self._queue)
            self._queue.clear()
            if not self.keeps_what_is_cut:
                self._held.clear()

    def mend(self) -> None:
        """Deliver again, what was held back first."""
        if self.is_cut:
            self.is_cut = False
            held, self._held = self._held, deque()
            for message, size_bytes in held:
                self.offered_bytes -= size_bytes  # it was counted when it was first sent
                self.send(message, size_bytes)


class Network:
    """All directed links between nodes (capability Links)."""

    supports: Final = frozenset({"cut", "delay", "jitter", "rate", "loss", "duplicate", "reorder", "corrupt", "client"})

    def __init__(
        self, loop: VirtualLoop, seed: int, receivers: Mapping[str, Receive], paths: Mapping[str, Path] | None = None
    ) -> None:
        self._links: dict[Pair, Link] = {
            (source, target): Link(loop, Chance(seed, f"link {source} {target}"), receive)
            for source in receivers
            for target, receive in receivers.items()
            if source != target
        }
        self._ways: dict[Pair, Way] = {}
        for node, path in (paths or {}).items():
            self._ways |= {(CLIENT, node): path.way_there, (node, CLIENT): path.way_back}

    def link(self, source: str, target: str) -> Link:
        """The link from node to node."""
        return self._links[source, target]

    def is_open(self, source: str, target: str) -> bool:
        """Whether a connection could be made: both directions pass something."""
        return not self._links[source, target].is_cut and not self._links[target, source].is_cut

    def _chosen(self, pairs: Iterable[Pair] | None) -> Sequence[Link | Way]:
        known: dict[Pair, Link | Way] = {**self._links, **self._ways}
        try:
            return list(known.values()) if pairs is None else [known[source, to] for source, to in pairs]
        except KeyError as missing:
            raise NemesisError(f"there is no link {missing.args[0]}") from None

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``."""
        for link in self._chosen(pairs):
            link.cut()

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``; what lies between clients and members can only be cut."""
        chosen = self._chosen(pairs)
        if shape != _HEALTHY and any(isinstance(link, Way) for link in chosen):
            raise NemesisError(f"the links of clients cannot be given a shape ({shape}), only be cut")
        for link in chosen:
            if isinstance(link, Link):
                link.reshape(shape)

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``."""
        for link in self._chosen(pairs):
            if isinstance(link, Link):
                link.reshape(_HEALTHY)
            link.mend()

    async def counters(self) -> dict[Pair, LinkCounter]:
        """See ``Links.counters``."""
        known: dict[Pair, Link | Way] = {**self._links, **self._ways}
        return {pair: LinkCounter(link.offered_bytes, link.delivered_bytes) for pair, link in known.items()}
