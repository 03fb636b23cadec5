"""A process that tells its time whenever it is asked, for tests that set its clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from splitvote.harness.clusters.clocks.vdso import read_image

TELLER = """
import sys, threading, time
busy = [threading.Thread(target=lambda: [time.time() for _ in iter(int, 1)], daemon=True) for _ in range(2)]
for thread in busy if sys.argv[1:] == ["busy"] else []:
    thread.start()
for line in sys.stdin:
    print(time.time_ns(), time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), flush=True)
"""


class Teller:
    """A process that tells its time whenever it is asked."""

    def __init__(self, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TELLER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    def ahead_ns(self) -> tuple[int, int]:
        """How far its wall and its monotonic clock are ahead of ours, at the time when it is asked."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        before = time.time_ns(), time.monotonic_ns()
        self.child.stdin.write(b"\n")
        self.child.stdin.flush()
        told = list(map(int, self.child.stdout.readline().split()))
        after = time.time_ns(), time.monotonic_ns()
        self.uncertain_ns = max(late - early for early, late in zip(before, after, strict=True))
        return told[0] - before[0], told[1] - before[1]

    def is_ahead(self, wall_ns: int, monotonic_ns: int) -> bool:
        """Whether its clocks are exactly so far ahead, as far as can be told."""
        told = self.ahead_ns()
        return all(
            0 <= each - asked <= self.uncertain_ns for each, asked in zip(told, (wall_ns, monotonic_ns), strict=True)
        )

    def functions(self) -> bytes:
        """Its vDSO as far as the kernel made it: everything up to the end of the section headers."""
        for each in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            if each.endswith("[vdso]"):
                start, end = (int(address, 16) for address in each.split()[0].split("-"))
                with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
                    content = os.pread(memory.fileno(), end - start, start)
                return content[: read_image(start, content).room - start]
        raise AssertionError("no vDSO")

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()
