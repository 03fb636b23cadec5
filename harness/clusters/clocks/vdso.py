"""The clocks that one process sees, by patching its private copy of the vDSO; never the host's clocks.

A program asks for the time by calling into the vDSO, code that the kernel maps
into every process.  Writing to it through ``/proc/PID/mem`` gives the process a
copy of its own: the first five bytes of each clock function become a jump to
our code (``vdso_code``), which lies in the unused end of the image's last page.
Works on any binary, Go's static ones included, and while it runs: the process
is suspended for about a millisecond, and no thread is between the bytes that
change.  Taking the jumps out again restores every byte of the kernel's
functions; our code behind them stays, for a thread that a signal holds in it.

x86-64 Linux only; the writer must be allowed to trace the process, as a parent
of the same user is unless Yama forbids it (``reason_against``).
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.clocks.vdso_code import (
    ACTIVE_PLACE,
    BLOCK_BYTES,
    BLOCKS,
    BLOCKS_PLACE,
    CODE,
    ENTRIES,
    SIZE_BYTES,
    jump,
    line,
    lines,
)
from splitvote.harness.clusters.procfs import thread_states
from splitvote.harness.errors import NemesisError

FOREVER_NS: Final = 1 << 62
SLEW: Final = 0.5
"""How much faster or slower monotonic time goes on its way to where it is to be."""

SUSPEND_TIMEOUT_S: Final = 2.0
MAPPED_TIMEOUT_S: Final = 2.0
"""A process that has just become another program may have no vDSO yet."""

PROBE_TIMEOUT_S: Final = 10.0
_ATTEMPTS: Final = 100
_POLL_S: Final = 0.0005
_JUMP_BYTES: Final = 5
_ALIGNMENT: Final = 16
_NS: Final = 1_000_000_000
_SYMBOLS: Final = {f"__vdso_{name}": place for name, place in ENTRIES.items()}


@dataclass(frozen=True, slots=True)
class Course:
    """How far a clock is ahead: ``base_ns`` at a time of its own truth, and ``rate`` ns more a ns for ``span_ns``."""

    base_ns: int = 0
    rate: float = 0.0
    since_ns: int = 0
    span_ns: int = FOREVER_NS

    def offset_ns(self, now_ns: int) -> int:
        """How far ahead it is at a time of its truth."""
        passed_ns = min(max(0, now_ns - self.since_ns), self.span_ns)
        return self.base_ns + int(passed_ns * self.rate)

    @property
    def end_ns(self) -> int | None:
        """How far ahead it is in the end; None when it never stops to gain or lose."""
        if not self.rate:
            return self.base_ns
        return None if self.span_ns == FOREVER_NS else self.base_ns + int(self.span_ns * self.rate)

    def onward(self, offset_ns: int, now_ns: int) -> Course:
        """The same for a clock that is so far ahead now and cannot go back: where it had to, it catches up slowly.

        That is where this course begins below where the last one has brought the
        clock by the time it is told.
        """
        if self.offset_ns(now_ns) >= offset_ns:
            return self
        if self.end_ns is None:
            return Course(offset_ns, self.rate, now_ns)
        to_go_ns = self.end_ns - offset_ns
        rate = self.rate if to_go_ns * self.rate > 0 else math.copysign(SLEW, to_go_ns)
        return Course(offset_ns, rate, now_ns, round(to_go_ns / rate))

    def carried(self, now_ns: int) -> list[int | float]:
        """For another machine, whose clocks show other times: how long it has been on its way, in place of a time."""
        return [self.base_ns, self.rate, now_ns - self.since_ns if self.rate else 0, self.span_ns]

    @classmethod
    def arrived(cls, carried: Sequence[int | float], now_ns: int) -> Course:
        """What another machine has sent right now, by this one's clock."""
        base_ns, rate, age_ns, span_ns = carried
        return cls(int(base_ns), float(rate), now_ns - int(age_ns) if rate else 0, int(span_ns))

    def packed(self) -> bytes:
        """For the patched code."""
        return line(since_ns=self.since_ns, base_ns=self.base_ns, rate=self.rate, span_ns=self.span_ns)


TRUE: Final = Course()


def now_ns() -> tuple[int, int]:
    """What this machine's clocks show: the wall's and the monotonic one."""
    return time.time_ns(), time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class Image:
    """A vDSO as it is mapped: its clock functions' addresses, where it is unused, and whether our code fits there."""

    functions: dict[str, int]
    room: int
    has_room: bool

    @property
    def jumps(self) -> dict[int, bytes]:
        """What we have each function begin with."""
        return {at: jump(at, self.room + _SYMBOLS[name]) for name, at in self.functions.items()}


def read_image(start: int, content: bytes) -> Image:
    """Understand the bytes of a vDSO (an ELF file as it is mapped); raises NemesisError for what is none."""
    if content[:5] != b"\x7fELF\x02":
        raise NemesisError("the vDSO is no 64-bit ELF image")
    (offset,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, offset + size * number) for number in range(count)]
    functions: dict[str, int] = {}
    for section in sections:
        if section[1] == _DYNAMIC_SYMBOLS:
            names = sections[section[6]][4]
            for place in range(section[4], section[4] + section[5], _SYMBOL.size):
                name_at, _, _, _, value, length = _SYMBOL.unpack_from(content, place)
                name = content[names + name_at : content.index(b"\0", names + name_at)].decode()
                if name in _SYMBOLS and length >= _JUMP_BYTES:
                    functions[name] = start + value
    room = (offset + size * count + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT  # section headers come last
    behind = content[room:]
    is_ours = behind.startswith(CODE)
    has_room = len(behind) >= SIZE_BYTES and (is_ours or not behind.strip(b"\0"))
    return Image(functions, start + room, has_room)


_DYNAMIC_SYMBOLS: Final = 11
_SYMBOL: Final = struct.Struct("<IBBHQQ")


@dataclass(slots=True)
class PatchedProcess:
    """A process whose clocks are ours to set; ``close`` takes the patch out, if the process still runs."""

    pid: int
    _memory: int
    _image: Image
    _original: dict[int, bytes] = field(default_factory=dict)
    _turn: int = 0

    @classmethod
    def of(cls, pid: int) -> PatchedProcess:
        """Patch a process; its clocks go on telling the truth.

        Raises NemesisError when it cannot be, and ProcessLookupError when it is
        gone.  Takes about a millisecond and does not let other tasks run, lest
        they suspend or resume the process meanwhile.
        """
        memory = _open_memory(pid)
        try:
            image = _mapped_image(pid, memory)
            process = cls(pid, memory, image)
            process._install()
        except BaseException:
            os.close(memory)
            raise
        return process

    def _install(self) -> None:
        image = self._image
        if "__vdso_clock_gettime" not in image.functions:
            raise NemesisError(f"the vDSO of pid {self.pid} has no clock_gettime to patch")
        if not image.has_room:
            raise NemesisError(f"the vDSO of pid {self.pid} has less than {SIZE_BYTES} unused bytes at its end")
        jumps = image.jumps
        self._original = {at: self._read(at, _JUMP_BYTES) for at in jumps}
        if self._original == jumps:  # somebody who is gone has patched it
            self._original = _own_bytes(image)
            return
        self._write(image.room, CODE)
        self.steer(wall=TRUE, monotonic=TRUE)
        self._rewrite(jumps)

    @property
    def courses(self) -> tuple[Course, Course]:
        """How its wall and its monotonic clock go; raises ProcessLookupError when the process is gone."""
        (place,) = struct.unpack("<q", self._read(self._image.room + ACTIVE_PLACE, 8))
        self._turn = place // BLOCK_BYTES
        block = self._read(self._image.room + BLOCKS_PLACE + place, BLOCK_BYTES)
        wall, monotonic = (Course(**each) for each in lines(block))
        return wall, monotonic

    def steer(self, *, wall: Course, monotonic: Course) -> None:
        """Have the clocks go like this from now on; raises ProcessLookupError when the process is gone."""
        self._turn = (self._turn + 1) % BLOCKS
        place = BLOCK_BYTES * self._turn
        self._write(self._image.room + BLOCKS_PLACE + place, wall.packed() + monotonic.packed())
        self._write(self._image.room + ACTIVE_PLACE, struct.pack("<q", place))

    def steer_onward(self, *, wall: Course, monotonic: Course) -> Course:
        """The same, but that monotonic time does not go back for it (``Course.onward``); how that goes now."""
        now_ns = time.monotonic_ns()
        course = monotonic.onward(self.courses[1].offset_ns(now_ns), now_ns)
        self.steer(wall=wall, monotonic=course)
        return course

    def close(self) -> None:
        """Restore the functions' bytes; does nothing to a process that is gone.  Idempotent."""
        if self._memory < 0:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                self._rewrite(self._original)
        finally:
            os.close(self._memory)
            self._memory = -1

    def _rewrite(self, changes: dict[int, bytes]) -> None:
        """Change code while no thread is in the midst of it."""
        for _ in range(_ATTEMPTS):
            with _suspended(self.pid):
                places = _program_counters(self.pid)
                if not any(at < place < at + _JUMP_BYTES for at in changes for place in places):
                    for at, code in changes.items():
                        self._write(at, code)
                    return
        raise NemesisError(f"pid {self.pid} asks for the time all the time: its vDSO cannot be patched")

    def _read(self, at: int, size: int) -> bytes:
        try:
            content = os.pread(self._memory, size, at)
        except OSError as failure:
            raise NemesisError(f"cannot read the vDSO of pid {self.pid}: {failure.strerror}") from None
        if len(content) != size:
            raise ProcessLookupError(self.pid)
        return content

    def _write(self, at: int, content: bytes) -> None:
        try:
            written = os.pwrite(self._memory, content, at)
        except OSError as failure:
            if not thread_states(self.pid):
                raise ProcessLookupError(self.pid) from None
            raise NemesisError(f"cannot write to the vDSO of pid {self.pid}: {failure.strerror}") from None
        if written != len(content):
            raise ProcessLookupError(self.pid)


def _own_bytes(image: Image) -> dict[int, bytes]:
    """What the functions begin with in this very process, whose kernel is the same."""
    memory = _open_memory(os.getpid())
    try:
        own = _mapped_image(os.getpid(), memory)
        return {at: os.pread(memory, _JUMP_BYTES, own.functions[name]) for name, at in image.functions.items()}
    finally:
        os.close(memory)


def is_patched(pid: int) -> bool:
    """Whether a process has our code; False when it is gone, or cannot be looked into."""
    try:
        memory = _open_memory(pid)
    except (NemesisError, ProcessLookupError):
        return False
    try:
        jumps = _mapped_image(pid, memory).jumps
        return bool(jumps) and all(os.pread(memory, _JUMP_BYTES, at) == code for at, code in jumps.items())
    except (NemesisError, OSError):
        return False
    finally:
        os.close(memory)


def _open_memory(pid: int) -> int:
    try:
        return os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    except OSError as failure:
        raise NemesisError(f"the memory of pid {pid} cannot be opened: {failure.strerror}") from None


def _mapped_image(pid: int, memory: int) -> Image:
    deadline_s = time.monotonic() + MAPPED_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
            found = [each.split()[0] for each in maps.splitlines() if each.endswith("[vdso]")]
            if found:
                start, end = (int(address, 16) for address in found[0].split("-"))
                return read_image(start, os.pread(memory, end - start, start))
        except FileNotFoundError:
            raise ProcessLookupError(pid) from None
        except PermissionError as failure:
            raise NemesisError(f"the memory of pid {pid} cannot be read: {failure.strerror}") from None
        except OSError:
            pass  # it is just becoming another program
        if not thread_states(pid):
            raise ProcessLookupError(pid)
        time.sleep(_POLL_S)
    raise NemesisError(f"pid {pid} has no vDSO")


@contextlib.contextmanager
def _suspended(pid: int) -> Iterator[None]:
    """No thread of the process runs its own code meanwhile; one that was suspended before stays so."""
    if thread_states(pid) == {"T"}:
        yield
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline_s = time.monotonic() + SUSPEND_TIMEOUT_S
        # Once one thread has stopped no other leaves the kernel: those that wait for a disk need not be awaited.
        while "R" in (states := thread_states(pid)) or "T" not in states:
            if not states:
                raise ProcessLookupError(pid)
            if time.monotonic() > deadline_s:
                raise NemesisError(f"pid {pid} is not suspended {SUSPEND_TIMEOUT_S:g} s after SIGSTOP")
            time.sleep(_POLL_S)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _program_counters(pid: int) -> list[int]:
    """Where each thread goes on when it runs again."""
    places = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            told = Path(f"/proc/{pid}/task/{thread}/syscall").read_text().split()
            if told and told[0] != "running":
                places.append(int(told[-1], 16))
    return places


def reason_against() -> str | None:
    """Why the clocks of our children cannot be set on this machine, None if they can: tried on a child of our own."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "AMD64") or struct.calcsize("P") != 8:
        return (
            f"single processes' clocks are set by patching their vDSO, which is written for x86-64 Linux, not {machine}"
        )
    script = "import sys,time; sys.stdin.read(1); print(time.time_ns(), time.monotonic_ns())"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        return _tried_on(child)
    except (NemesisError, OSError, ValueError, subprocess.TimeoutExpired) as failure:
        return f"a child's vDSO cannot be patched here: {failure}{_yama()}"
    finally:
        child.kill()
        child.communicate()


def _tried_on(child: subprocess.Popen[bytes]) -> str | None:
    hour_ns = 3600 * _NS
    PatchedProcess.of(child.pid).steer(wall=Course(hour_ns), monotonic=Course(2 * hour_ns))
    told, _ = child.communicate(b".", timeout=PROBE_TIMEOUT_S)
    wall_ns, monotonic_ns = map(int, told.split())
    late_ns = wall_ns - time.time_ns() - hour_ns, monotonic_ns - time.monotonic_ns() - 2 * hour_ns
    if all(abs(late) < PROBE_TIMEOUT_S * _NS for late in late_ns):
        return None
    return "a child whose vDSO was patched went on to tell the true time"


def _yama() -> str:
    """What the kernel's setting says, where it is why."""
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        return ""
    return f" (kernel.yama.ptrace_scope is {scope}; it must be 0 or 1)" if scope in ("2", "3") else ""
