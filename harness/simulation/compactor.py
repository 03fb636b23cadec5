"""The periodic compactor (auto-compaction-mode=revision): the leader asks for all but the last revisions to be dropped.

Losing the lead pauses it, gaining the lead resumes it.  Source: etcd's
server/etcdserver/api/v3compactor/revision.go.
"""

from __future__ import annotations

from typing import Final

from splitvote.harness.simulation.interface import Host, Timer
from splitvote.harness.simulation.store import Store

INTERVAL_S: Final = 300.0


class Compactor:
    """Asks the host to compact; does nothing where ``keep_revisions`` is None."""

    def __init__(self, host: Host, store: Store, *, keep_revisions: int | None) -> None:
        self._host = host
        self._store = store
        self._keep_revisions = keep_revisions
        self._is_paused = True
        self._last = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin to look, every INTERVAL_S."""
        if self._keep_revisions is not None and self._timer is None:
            self._timer = self._host.clock.call_later(INTERVAL_S, self._look)

    def pause(self) -> None:
        """Ask for nothing: the lead was lost."""
        self._is_paused = True

    def resume(self) -> None:
        """Ask again: the lead was gained."""
        self._is_paused = False

    def _look(self) -> None:
        assert self._keep_revisions is not None
        self._timer = self._host.clock.call_later(INTERVAL_S, self._look)
        revision = self._store.revision - self._keep_revisions
        if not self._is_paused and revision > 0 and revision != self._last:
            self._last = revision
            self._host.compact(revision)
