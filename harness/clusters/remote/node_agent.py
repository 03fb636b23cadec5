"""What is done on a node by a program of ours there: patching its member's clocks, limiting it, damaging its files.

Runs on the node, by whatever Python 3.10 or later it has, so that it needs
Python's own library only, as do all the modules it stands on (``agents`` brings
them there as one file)::

    python3 -I AGENT FOLDER     answers a JSON object a line by one, in order, until stdin ends

There is one a folder: its pidfile is as ``remote_daemon`` has it, and an earlier
one that was left is ended.  One that is asked nothing for long ends by itself,
since a connection may be gone without a word; what it did stays done.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from splitvote.harness.clusters.clocks.vdso import Course, PatchedProcess, is_patched, now_ns, reason_against
from splitvote.harness.clusters.cpugroups import container_group, limit_in, throttled_s_in
from splitvote.harness.clusters.disks.damage import damage, damageable
from splitvote.harness.clusters.gofail import call
from splitvote.harness.clusters.procfs import started, thread_states, usage_of
from splitvote.harness.errors import NemesisError

IDLE_S: Final = 60.0
WORKS: Final = "works"
END_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.01
_PIECE_BYTES: Final = 1 << 16
_CAN_WAIT: Final = (signal.SIGTERM, signal.SIGHUP)
_TRACING: Final = 19
"""The capability SYS_PTRACE."""

Answer = dict[str, Any]


class Agent:
    """The processes that it has patched or limited; each method but ``answer`` is something it can be asked to do."""

    def __init__(self) -> None:
        self._patched: dict[int, PatchedProcess] = {}
        self._can: dict[str, Callable[..., Answer]] = {
            "look": self.look,
            "steer": self.steer,
            "courses": self.courses,
            "release": self.release,
            "limit_fds": self.limit_fds,
            "usage": self.usage,
            "call_gofail": self.call_gofail,
            "damageable": self.damageable,
            "damage": self.damage,
        }

    def answer(self, line: bytes) -> Answer:
        """Do what a line asks for; {"gone": true} of a process that is not there, {"error": text} of what failed."""
        try:
            request = json.loads(line)
            return self._can[request.pop("do")](**request)
        except ProcessLookupError:
            return {"gone": True}
        except (NemesisError, OSError, ValueError, TypeError, KeyError) as failure:
            return {"error": f"{failure or ''}" or type(failure).__name__}

    def look(self, folder: str) -> Answer:
        """The pid of the folder's process, and the states of its threads."""
        pid = read_pidfile(Path(folder))
        return {"pid": pid, "states": [] if pid is None else sorted(thread_states(pid))}

    def steer(self, pid: int, wall: list[Any], monotonic: list[Any]) -> Answer:
        """Set a process's clocks; courses are as ``Course.carried`` makes them."""
        wall_ns, monotonic_ns = now_ns()
        try:
            goes = self._process(pid).steer_onward(
                wall=Course.arrived(wall, wall_ns), monotonic=Course.arrived(monotonic, monotonic_ns)
            )
        except ProcessLookupError:
            self.release(pid)
            raise
        return {"monotonic": goes.carried(now_ns()[1])}

    def courses(self, pid: int) -> Answer:
        """How a patched process's clocks go; nothing of one that nobody patched."""
        if not is_patched(pid):
            return {}
        wall, monotonic = self._process(pid).courses
        wall_ns, monotonic_ns = now_ns()
        return {"wall": wall.carried(wall_ns), "monotonic": monotonic.carried(monotonic_ns)}

    def release(self, pid: int) -> Answer:
        """Take a patch out, an earlier agent's as well."""
        process = self._patched.pop(pid, None)
        if process is None and is_patched(pid):
            process = PatchedProcess.of(pid)
        if process is not None:
            process.close()
        return {}

    def _process(self, pid: int) -> PatchedProcess:
        if pid not in self._patched:
            self._patched[pid] = PatchedProcess.of(pid)
        return self._patched[pid]

    def limit_fds(self, pid: int, most: int) -> Answer:
        """How many descriptors a process may have, and could have before."""
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
        return {"before": soft}

    def usage(self, pid: int) -> Answer:
        """What a process uses, and how the group that the node is, is limited; as ``cluster.Usage`` names it."""
        group = container_group()
        limit = {} if group is None else {"most_cpus": limit_in(*group), "throttled_s": throttled_s_in(*group)}
        return usage_of(pid)._asdict() | limit

    def call_gofail(self, address: str, verb: str, point: str, body: str) -> Answer:
        """See ``gofail.call``."""
        status, text = call(address, verb, point, body)
        return {"status": status, "text": text}

    def damageable(self, data: str) -> Answer:
        """See ``damage.damageable``."""
        return {"kinds": sorted(damageable(Path(data)))}

    def damage(self, data: str, kind: str, pick: int) -> Answer:
        """See ``damage.damage``."""
        return dict(damage(Path(data), kind, pick))


def read_pidfile(folder: Path) -> int | None:
    """The pid in a folder's pidfile; None where the process that it names is gone."""
    try:
        pid, ticks, boot = (folder / "pid").read_text().split()
    except (OSError, ValueError):
        return None
    if started(int(pid)) != f"{ticks} ticks after boot {boot}" or not thread_states(int(pid)):
        return None
    return int(pid)


def take_over(folder: Path) -> None:
    """Be the folder's agent, in a group of processes of its own, by which it can be ended."""
    with contextlib.suppress(PermissionError):  # it is the first of a session already
        os.setsid()
    if (earlier := read_pidfile(folder)) is not None:
        _end(earlier)
    ticks, _, boot = started(os.getpid()).partition(" ticks after boot ")
    fresh = folder / "pid.fresh"
    fresh.write_text(f"{os.getpid()} {ticks} {boot}\n")
    fresh.replace(folder / "pid")


def _end(pid: int) -> None:
    """End an earlier agent, in order if it can: the process that it is patching must not stay suspended."""
    deadline_s = time.monotonic() + END_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while thread_states(pid):
            if time.monotonic() > deadline_s:
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(_POLL_S)


def serve(agent: Agent) -> None:
    """Answer lines until there are no more; signals that can wait do so until a line is answered."""
    read = bytearray()
    while select.select([0], [], [], IDLE_S)[0]:
        piece = os.read(0, _PIECE_BYTES)
        if not piece:
            return
        read += piece
        while (end := read.find(b"\n")) >= 0:
            line = bytes(read[:end])
            del read[: end + 1]
            signal.pthread_sigmask(signal.SIG_BLOCK, _CAN_WAIT)
            answer = agent.answer(line)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAN_WAIT)
            os.write(1, json.dumps(answer).encode() + b"\n")


def probe() -> list[str]:
    """What can be done here, tried out on a child."""
    return [f"agent={WORKS}", f"clock={reason_against() or _reason_against_strangers() or WORKS}"]


def _reason_against_strangers() -> str | None:
    """Why processes that are no children of ours cannot be patched, by Yama's setting; members are none."""
    try:
        scope = int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
        status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
        if scope < 1 or int(status["CapEff"], 16) >> _TRACING & 1:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return (
        f"kernel.yama.ptrace_scope is {scope} there, so that only a tracer may write to other processes: it takes "
        "SYS_PTRACE (docker-compose.clock.yml: `splitvote up --with clock`)"
    )


def main(folder: str) -> None:
    """See the module."""
    take_over(Path(folder))
    serve(Agent())
