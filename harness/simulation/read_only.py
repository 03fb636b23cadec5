"""Read requests that wait until a heartbeat's quorum has confirmed the leader (etcd's raft/read_only.go)."""

from __future__ import annotations

from splitvote.harness.simulation.messages import Message


class _Pending:
    __slots__ = ("acks", "index", "request")

    def __init__(self, request: Message, index: int) -> None:
        self.request = request
        self.index = index
        self.acks: dict[int, None] = {}


class ReadOnly:
    """Requests by their context, in the order they came; confirming one confirms all before it."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[int, _Pending] = {}

    def add(self, index: int, request: Message) -> None:
        """Note a request, and the commit index at which it came."""
        if request.context not in self._pending:
            self._pending[request.context] = _Pending(request, index)

    def acknowledge(self, member: int, context: int) -> dict[int, None]:
        """A member has confirmed the leader by this request's heartbeat; all who have."""
        pending = self._pending.get(context)
        if pending is None:
            return {}
        pending.acks[member] = None
        return pending.acks

    def advance(self, context: int) -> list[tuple[Message, int]]:
        """Take out the confirmed request and all before it, with their indices."""
        taken: list[tuple[Message, int]] = []
        if context in self._pending:
            for older in list(self._pending):
                pending = self._pending.pop(older)
                taken.append((pending.request, pending.index))
                if older == context:
                    break
        return taken

    @property
    def last_context(self) -> int:
        """The newest waiting request's context, 0 when none waits: heartbeats carry it again."""
        return next(reversed(self._pending), 0)
