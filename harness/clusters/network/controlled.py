"""A process of our own that is asked, one JSON object a line, over a socket that is its stdin, and answers in order.

Its module runs as a program (``python -m``), answers each request with the
request's ``id``, says ``{"error": text}`` where nothing was done, and ends when
its stdin does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from splitvote.harness.clusters.processes import Children, ProcessRecord
from splitvote.harness.clusters.procfs import started
from splitvote.harness.errors import NemesisError

ANSWER_TIMEOUT_S: Final = 10.0
_LINE_LIMIT_BYTES: Final = 1 << 20


class ControlledProcess:
    """One such process; ``what`` it is called in messages, such as "link proxy"."""

    def __init__(self, what: str, module: str, children: Children) -> None:
        self._what = what
        self._module = module
        self._children = children
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._record: ProcessRecord | None = None
        self._turn = asyncio.Lock()
        self._asked = 0

    async def open(self, log: Path, arguments: Sequence[str] = (), *, namespaces: Sequence[int] = ()) -> None:
        """Start it, in these namespaces (descriptors), its output going to ``log``; raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, log.open("ab") as output:
                command = [*program(self._module), *arguments]
                self._process = await self._children.spawn(
                    command, env=environment(), output=output, stdin=theirs, namespaces=namespaces
                )
            self._record = ProcessRecord(self._process.pid, started(self._process.pid), self._module)
            self._streams = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT_BYTES)
        except BaseException:
            ours.close()
            raise

    @property
    def record(self) -> ProcessRecord | None:
        """The process, to be known again; None while there is none."""
        return None if self._process is None else self._record

    @property
    def has_died(self) -> bool:
        """Whether it has ended though nobody closed it."""
        return self._process is not None and self._process.poll() is not None

    async def close(self) -> None:
        """End it; idempotent."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        if self._process is not None:
            await self._children.end(self._process, timeout_s=ANSWER_TIMEOUT_S)
            self._process = None

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the answer; raises NemesisError when it refuses, is late, or is gone."""
        if self._streams is None:
            raise NemesisError(f"the {self._what} is not running: bring the cluster up first")
        reader, writer = self._streams
        try:
            async with self._turn, asyncio.timeout(ANSWER_TIMEOUT_S):
                self._asked += 1
                writer.write(json.dumps({**request, "id": self._asked}).encode() + b"\n")
                await writer.drain()
                answer = await _answer_to(self._asked, reader)
        except TimeoutError:
            raise NemesisError(
                f"the {self._what} did not answer {request['do']!r} within {ANSWER_TIMEOUT_S:g} s"
            ) from None
        except OSError as failure:
            raise NemesisError(f"the {self._what} is gone ({failure.strerror}): its work cannot be trusted") from None
        if answer is None:
            raise NemesisError(
                f"the {self._what} ended before it answered {request['do']!r}: its work cannot be trusted"
            )
        if "error" in answer:
            raise NemesisError(f"the {self._what} refused {request['do']!r}: {answer['error']}")
        return answer


async def _answer_to(asked: int, reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The answer to this request, past those that nobody waited for any more; None when the process ended."""
    while line := await reader.readline():
        answer: dict[str, Any] = json.loads(line)
        if answer["id"] == asked:
            return answer
    return None


def program(module: str) -> list[str]:
    """The command that runs a module of this package."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Ours, made to find this very package."""
    package_root = Path(__file__).absolute().parents[4]
    search = [str(package_root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONUNBUFFERED": "1"}
