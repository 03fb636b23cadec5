"""What a raft leader knows of each follower's log, and how it sends to it (etcd's raft/tracker)."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

MOST_INFLIGHT: Final = 256
"""Appends that may be under way to one follower."""


class Progress:
    """One follower.

    ``probe``: one append at a time, until it is known where the logs agree;
    ``replicate``: appends are streamed; ``snapshot``: it lacks what was
    compacted away, and is sent everything up to ``pending_snapshot``.
    """

    __slots__ = (
        "inflight",
        "is_learner",
        "is_probe_sent",
        "is_recently_active",
        "match",
        "next",
        "pending_snapshot",
        "state",
    )

    def __init__(self, *, match: int, next_index: int, is_learner: bool) -> None:
        self.match = match
        self.next = next_index
        self.is_learner = is_learner
        self.state: Literal["probe", "replicate", "snapshot"] = "probe"
        self.pending_snapshot = 0
        self.is_probe_sent = False
        self.is_recently_active = False
        self.inflight: deque[int] = deque()

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be sent to it now."""
        if self.state == "replicate":
            return len(self.inflight) >= MOST_INFLIGHT
        return self.is_probe_sent if self.state == "probe" else True

    def become_probe(self) -> None:
        """Find out where the logs agree, one message at a time."""
        if self.state == "snapshot":
            self.next = max(self.match + 1, self.pending_snapshot + 1)
        else:
            self.next = self.match + 1
        self._reset("probe")

    def become_replicate(self) -> None:
        """Stream."""
        self._reset("replicate")
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Send nothing but the snapshot that was just sent."""
        self._reset("snapshot")
        self.pending_snapshot = index

    def _reset(self, state: Literal["probe", "replicate", "snapshot"]) -> None:
        self.state = state
        self.is_probe_sent = False
        self.pending_snapshot = 0
        self.inflight.clear()

    def maybe_update(self, index: int) -> bool:
        """It has everything up to this index; whether that was news."""
        is_news = index > self.match
        if is_news:
            self.match = index
            self.is_probe_sent = False
        self.next = max(self.next, index + 1)
        return is_news

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """An append after ``rejected`` was refused: go back to the hint; False for an old message's refusal."""
        if self.state == "replicate":
            if rejected <= self.match:
                return False
            self.next = self.match + 1
            return True
        if self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, hint + 1), 1)
        self.is_probe_sent = False
        return True

    def free_inflight(self, index: int) -> None:
        """Appends up to this index have arrived."""
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()

    def free_one_when_full(self) -> None:
        """A heartbeat was answered: let one more append through, whatever became of those under way."""
        if self.state == "replicate" and len(self.inflight) >= MOST_INFLIGHT:
            self.inflight.popleft()
