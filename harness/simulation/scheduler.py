"""The FIFO scheduler of a server's jobs (etcd's pkg/schedule): one at a time, in the order in which they came."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Job(Protocol):
    """Something to be done; ``may_begin`` can hold it (and all behind it) back until ``FifoScheduler.go_on``."""

    def may_begin(self) -> bool:
        """Whether what it waits for is there."""
        ...

    def do(self) -> None:
        """Do it."""
        ...


class FifoScheduler:
    """Runs jobs as soon as those before them are done; ``hold`` keeps everything back for a while."""

    def __init__(self) -> None:
        self._pending: deque[Job] = deque()
        self._is_running = False
        self._is_held = False
        self._is_stopped = False
        self.finished = 0

    @property
    def pending(self) -> int:
        """How many jobs wait."""
        return len(self._pending)

    def schedule(self, job: Job) -> None:
        """Have a job done; does nothing after ``stop``."""
        if not self._is_stopped:
            self._pending.append(job)
            self.go_on()

    def hold(self) -> None:
        """Begin no job until ``release``."""
        self._is_held = True

    def release(self) -> None:
        """Go on."""
        self._is_held = False
        self.go_on()

    def go_on(self) -> None:
        """Do whatever may begin."""
        if self._is_running:
            return
        self._is_running = True
        pending = self._pending
        try:
            while pending and not self._is_held and not self._is_stopped and pending[0].may_begin():
                pending.popleft().do()
                self.finished += 1
        finally:
            self._is_running = False

    def stop(self) -> None:
        """Begin nothing any more."""
        self._is_stopped = True
        self._pending.clear()
