"""Clocks of real processes, set by patching their vDSO: what they then tell, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitvote.harness.clusters.procfs import thread_states
from splitvote.harness.clusters.vdso import (
    TRUE,
    Course,
    PatchedProcess,
    is_patched,
    read_image,
    reason_against,
)
from splitvote.harness.errors import NemesisError

S = 1_000_000_000

TELLER = """
import sys, threading, time
busy = [threading.Thread(target=lambda: [time.time() for _ in iter(int, 1)], daemon=True) for _ in range(2)]
for thread in busy if sys.argv[1:] == ["busy"] else []:
    thread.start()
for line in sys.stdin:
    print(time.time_ns(), time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), flush=True)
"""

pytestmark = pytest.mark.skipif((why := reason_against()) is not None, reason=str(why))


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


@pytest.fixture
def teller() -> Iterator[Teller]:
    each = Teller()
    each.ahead_ns()  # it has started
    yield each
    each.end()


def test_clocks_are_set_and_every_byte_of_the_kernels_is_restored(teller: Teller) -> None:
    """Patched, a process tells the truth until its clocks are set; each is set by itself, and nobody else's is."""
    before = teller.functions()
    process = PatchedProcess.of(teller.pid)
    assert teller.is_ahead(0, 0)
    assert is_patched(teller.pid)
    process.steer(wall=Course(-3600 * S), monotonic=Course(5 * S))
    assert teller.is_ahead(-3600 * S, 5 * S)
    assert not is_patched(os.getpid())
    process.steer(wall=TRUE, monotonic=TRUE)
    assert teller.is_ahead(0, 0)
    process.steer(wall=Course(3600 * S), monotonic=TRUE)
    assert teller.functions() != before
    process.close()
    process.close()
    assert teller.is_ahead(0, 0)
    assert teller.functions() == before
    assert not is_patched(teller.pid)


def test_a_clock_drifts_by_itself_and_stops_where_its_course_ends(teller: Teller) -> None:
    """What it tells is what the course says for some moment of the asking; past its span nothing is added."""
    process = PatchedProcess.of(teller.pid)
    wall = Course(2 * S, 0.5, time.time_ns())
    monotonic = Course(S, -0.5, time.monotonic_ns(), 20_000_000)
    process.steer(wall=wall, monotonic=monotonic)
    assert process.courses == (wall, monotonic)
    earlier = -S
    while True:
        wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        ahead = teller.ahead_ns()
        least, most = wall.offset_ns(wall_ns), wall.offset_ns(time.time_ns())
        assert least - 10 <= ahead[0] <= most + teller.uncertain_ns
        assert ahead[0] > earlier
        earlier = ahead[0] - teller.uncertain_ns
        if monotonic_ns > monotonic.since_ns + monotonic.span_ns:
            break
    assert 0 <= ahead[1] - (S - 10_000_000) <= teller.uncertain_ns
    process.close()


def test_a_busy_process_of_many_threads_is_patched_while_it_asks_for_the_time() -> None:
    teller = Teller("busy")
    try:
        teller.ahead_ns()
        for turn in range(20):
            process = PatchedProcess.of(teller.pid)
            process.steer(wall=Course(turn * S), monotonic=TRUE)
            assert teller.is_ahead(turn * S, 0)
            process.close()
            assert teller.is_ahead(0, 0)
        assert teller.child.poll() is None
    finally:
        teller.end()


def test_another_process_can_take_the_patch_over_and_out(teller: Teller) -> None:
    """All that is needed is in the patched process itself."""
    before = teller.functions()
    PatchedProcess.of(teller.pid).steer(wall=Course(7 * S), monotonic=Course(3 * S))
    again = PatchedProcess.of(teller.pid)
    assert again.courses == (Course(7 * S), Course(3 * S))
    assert teller.is_ahead(7 * S, 3 * S)
    again.close()
    assert teller.is_ahead(0, 0)
    assert teller.functions() == before


def test_a_process_that_was_suspended_stays_so(teller: Teller) -> None:
    os.kill(teller.pid, signal.SIGSTOP)
    os.waitpid(teller.pid, os.WUNTRACED)
    process = PatchedProcess.of(teller.pid)
    process.steer(wall=Course(7 * S), monotonic=TRUE)
    assert thread_states(teller.pid) == {"T"}
    os.kill(teller.pid, signal.SIGCONT)
    assert teller.is_ahead(7 * S, 0)
    process.close()


def test_a_process_that_is_gone_is_no_error_but_told(teller: Teller) -> None:
    process = PatchedProcess.of(teller.pid)
    teller.end()
    with pytest.raises(ProcessLookupError):
        process.steer(wall=TRUE, monotonic=TRUE)
    process.close()
    with pytest.raises(ProcessLookupError):
        PatchedProcess.of(teller.pid)
    assert not is_patched(teller.pid)


def test_what_is_no_vdso_is_refused() -> None:
    with pytest.raises(NemesisError, match="no 64-bit ELF"):
        read_image(0, bytes(4096))
