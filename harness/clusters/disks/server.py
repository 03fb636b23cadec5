"""The process behind one member's disk: serves a mounted folder to the kernel, and is told what to break of it.

Run as ``python -m splitvote.harness.clusters.disks.server ROOT ASIDE PROBE [KIND]``:
it enters a mount namespace of its own (``mounts``), mounts over ROOT what ROOT
has, keeps in the folder ASIDE what was removed and may come back, and tries the
disk with the file PROBE below ROOT.  With ``--try [KIND]`` it tells whether that
can be had here.

It is asked one JSON object a line over the socket that is its stdin, answers
each with its ``id``, and ends when stdin does:

=============================================================  ==================================================
``{"do": "begin"}``                                            ``{"as": "root" or "user"}``: it is mounted
``{"do": "break", "fault": F, "delay_ms": D}``                 ``{}``: a fault of ``troubles``; null is none
``{"do": "lose"}``                                             ``{"bytes": {file: unsynced bytes}, "names": N}``
``{"do": "settle"}``                                           ``{}``: all there is is on the disk
``{"do": "probe", "timeout_s": S}``                            ``{"found": {"error": words} or {"fsync_ms": T}}``
=============================================================  ==================================================

One thread does all of it; a request that has to wait is put by, and others go
on.  One that a process waits for that is being killed is refused, since the
kernel ends no process before its requests are answered.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitvote.harness.clusters.disks import mounts, wire
from splitvote.harness.clusters.disks.files import Files
from splitvote.harness.clusters.disks.replies import Replies
from splitvote.harness.clusters.disks.troubles import Trouble
from splitvote.harness.clusters.disks.wire import Request

LOOK_S: Final = 0.05
"""How often it is seen whether those who wait are being killed."""

TURN_S: Final = 1.0
"""How often it is seen what has become old enough to be written back."""

_CONTROL_BYTES: Final = 64 << 10
_SIGKILL_PENDING: Final = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that waits until ``due_s``."""

    request: Request
    due_s: float


@dataclass(frozen=True, slots=True)
class _Probe:
    """A child that tries the disk, the pipe that it tells what came of it through, and who asked."""

    pid: int
    pipe: int
    asked: Any
    due_s: float
    timeout_s: float


class Server:
    """Serves the kernel on ``device``, the harness on ``control``; ``probe_path`` is the file that tries the disk."""

    def __init__(self, files: Files, device: int, control: socket.socket, *, kind: str, probe_path: str) -> None:
        self._files = files
        self._replies = Replies(files)
        self._device = device
        self._control = control
        self._kind = kind
        self._probe_path = probe_path
        self._buffer = bytearray(wire.BUFFER_BYTES)
        self._waiting: list[_Waiting] = []
        self._probes: list[_Probe] = []
        self._ended: list[int] = []
        self._heard = b""
        self._is_over = False

    def serve(self) -> None:
        """Serve until the harness is gone, or what was mounted is."""
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        turn_s = time.monotonic() + TURN_S
        while not self._is_over:
            busy = self._waiting or self._probes or self._ended
            for descriptor, _ in poll.poll(1e3 * (LOOK_S if busy else TURN_S)):
                if descriptor == self._device:
                    self._serve_kernel()
                else:
                    self._hear()
            if busy:
                self._look_after()
            if time.monotonic() >= turn_s:
                turn_s = time.monotonic() + TURN_S
                if self._replies.trouble.fault in (None, "slow_fsync"):
                    self._files.write_back()

    # The kernel.

    def _serve_kernel(self) -> None:
        """Serve every request that there is."""
        while not self._is_over:
            try:
                size = os.readv(self._device, [self._buffer])
            except BlockingIOError:
                return
            except OSError as failure:
                if failure.errno == errno.ENODEV:  # unmounted
                    self._is_over = True
                elif failure.errno not in (errno.ENOENT, errno.EINTR):  # what was asked was taken back
                    raise
                return
            request = wire.parse(memoryview(self._buffer)[:size])
            wait_s = self._replies.trouble.wait_s(request.opcode)
            if wait_s:
                self._waiting.append(_Waiting(request.kept(), time.monotonic() + wait_s))
            else:
                self._do(request)

    def _do(self, request: Request) -> None:
        answer = self._replies.reply(request)
        if answer is not None:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        with suppress(FileNotFoundError):  # whoever asked is gone
            os.write(self._device, answer)

    def _look_after(self) -> None:
        """Do what has waited long enough, refuse what the dying wait for, and see to the probes."""
        waiting, self._waiting = self._waiting, []
        now_s = time.monotonic()
        for each in waiting:
            if _is_dying(each.request.thread):
                self._send(wire.refusal(each.request.unique, errno.EINTR))
            elif each.due_s <= now_s:
                self._do(each.request)
            else:
                self._waiting.append(each)
        for probe in list(self._probes):
            self._end_probe(probe, now_s)
        self._ended = [pid for pid in self._ended if os.waitpid(pid, os.WNOHANG) == (0, 0)]

    # The harness.

    def _hear(self) -> None:
        heard = self._control.recv(_CONTROL_BYTES)
        self._is_over = not heard
        *lines, self._heard = (self._heard + heard).split(b"\n")
        for line in lines:
            request = json.loads(line)
            try:
                answer = self._answer(request)
            except (OSError, KeyError, TypeError, ValueError) as problem:
                answer = {"error": f"{type(problem).__name__}: {problem}"}
            if answer is not None:
                self._tell(request.get("id"), answer)

    def _tell(self, asked: Any, answer: dict[str, Any]) -> None:
        self._control.sendall(json.dumps({**answer, "id": asked}).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        match request["do"]:
            case "begin":
                return {"as": self._kind}
            case "break":
                self._break(Trouble(request["fault"], request["delay_ms"]))
                return {}
            case "settle":
                self._files.settle()
                return {}
            case "lose":
                lost = self._files.lose()
                return {"bytes": lost.bytes_by_file, "names": lost.names}
            case "probe":
                self._begin_probe(request.get("id"), request["timeout_s"])
                return None
            case unknown:
                raise ValueError(f"cannot do {unknown!r}")

    def _break(self, trouble: Trouble) -> None:
        """Be broken like this from now on; what waits does so for the new reason, or no longer."""
        self._replies.trouble = trouble
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            wait_s = trouble.wait_s(each.request.opcode)
            if wait_s:
                self._waiting.append(_Waiting(each.request, time.monotonic() + wait_s))
            else:
                self._do(each.request)

    def _begin_probe(self, asked: Any, timeout_s: float) -> None:
        """Have a child write and sync a file, as any process would; we serve it meanwhile."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            for descriptor in (self._device, self._control.fileno(), reading):
                os.close(descriptor)
            os.write(writing, json.dumps(_try_disk(self._probe_path)).encode())
            os._exit(0)
        os.close(writing)
        os.set_blocking(reading, False)
        self._probes.append(_Probe(pid, reading, asked, time.monotonic() + timeout_s, timeout_s))

    def _end_probe(self, probe: _Probe, now_s: float) -> None:
        """Tell what a child found, or that it found nothing in time."""
        try:
            found = os.read(probe.pipe, _CONTROL_BYTES)
            answer = json.loads(found) if found else {"found": {"error": "the probe ended without a word"}}
        except BlockingIOError:
            if now_s < probe.due_s:
                return
            os.kill(probe.pid, signal.SIGKILL)
            answer = {"found": {"error": f"no answer within {probe.timeout_s:g} s"}}
        self._probes.remove(probe)
        self._ended.append(probe.pid)
        os.close(probe.pipe)
        self._tell(probe.asked, answer)


def _try_disk(path: str) -> dict[str, Any]:
    """Write and sync a small file: how long the sync took, or the error."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, b"splitvote", 0)
            started_s = time.monotonic()
            os.fsync(descriptor)
            return {"found": {"fsync_ms": round(1e3 * (time.monotonic() - started_s), 3)}}
        finally:
            os.close(descriptor)
    except OSError as failure:
        return {"found": {"error": os.strerror(failure.errno or errno.EIO).lower()}}


def _is_dying(thread: int) -> bool:
    """Whether a thread has been sent SIGKILL, or is gone; not so of one that we cannot see."""
    if thread == 0:
        return False
    try:
        for line in Path(f"/proc/{thread}/status").read_text().splitlines():
            if line.startswith(("SigPnd:", "ShdPnd:")) and int(line.split()[1], 16) & _SIGKILL_PENDING:
                return True
    except OSError:
        return True
    return False


def try_out(kind: str | None) -> dict[str, str]:
    """Mount a folder in a namespace of our own, and unmount it: how that was done, or what is missing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = mounts.enter_namespace(kind)
            device = mounts.mount(folder)
        except OSError as failure:
            return {"problem": failure.strerror or str(failure)}
        os.close(device)
        mounts.unmount(folder)
    return {"as": found}


def main(arguments: list[str]) -> None:
    """See the module."""
    if arguments[0] == "--try":
        print(json.dumps(try_out(arguments[1] if len(arguments) > 1 else None)))
        return
    root, aside, probe, *kind = arguments
    os.umask(0)
    files = Files(root, aside)
    control = socket.socket(fileno=0)
    as_what = mounts.enter_namespace(kind[0] if kind else None)
    device = mounts.mount(root)
    with suppress(KeyboardInterrupt, ConnectionError), closing(files):
        Server(files, device, control, kind=as_what, probe_path=os.path.join(root, probe)).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
