"""Clocks of real processes, set by patching their vDSO: what they then tell, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from splitvote.harness.clusters.clocks.vdso import (
    TRUE,
    Course,
    PatchedProcess,
    is_patched,
    read_image,
    reason_against,
)
from splitvote.harness.clusters.procfs import thread_states
from splitvote.harness.errors import NemesisError
from tests.harness.clusters.teller import Teller

S = 1_000_000_000

pytestmark = pytest.mark.skipif((why := reason_against()) is not None, reason=str(why))


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


@pytest.mark.parametrize(
    ("asked", "ahead_ns", "ends_ns"),
    [
        (Course(30, -0.5, 100, 60), 40, 0),  # it was to come back from 30, and has gone on to 40 meanwhile
        (Course(0, 0.5, 100, 80), 10, 40),
        (Course(0, 0.5, 100, 80), 50, 40),
        (TRUE, 10, 0),
    ],
)
def test_a_monotonic_clock_goes_on_from_where_it_is_to_where_it_was_to_end(
    asked: Course, ahead_ns: int, ends_ns: int
) -> None:
    """It never goes back at once, slower than time it never goes, and in the end it is where it was sent."""
    goes = asked.onward(ahead_ns, 100)
    assert goes.offset_ns(100) == ahead_ns
    assert goes.end_ns == ends_ns
    assert goes.offset_ns(100 + goes.span_ns) == ends_ns
    assert goes.rate > -1.0


def test_a_course_that_does_not_go_back_is_kept_and_one_without_an_end_has_none() -> None:
    ahead = Course(50, 0.5, 100)
    assert ahead.onward(40, 100) == ahead
    slower = Course(0, -0.2, 100).onward(40, 100)
    assert slower == Course(40, -0.2, 100)
    assert slower.end_ns is None


def test_monotonic_time_that_would_go_back_is_slowed_down_instead(teller: Teller) -> None:
    """What a process shows never decreases, and comes to the truth by itself."""
    process = PatchedProcess.of(teller.pid)
    process.steer(wall=TRUE, monotonic=Course(20_000_000))
    goes = process.steer_onward(wall=TRUE, monotonic=TRUE)
    assert goes.base_ns == 20_000_000
    assert goes.end_ns == 0
    earlier = 20_000_000
    while time.monotonic_ns() < goes.since_ns + goes.span_ns:
        ahead_ns = teller.ahead_ns()[1]
        assert ahead_ns - teller.uncertain_ns <= earlier
        earlier = ahead_ns
    assert teller.is_ahead(0, 0)
    process.close()
