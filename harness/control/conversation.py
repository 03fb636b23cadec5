"""A command on a node that goes on, and answers each line it is given by one: for what must be quick, or in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from splitvote.harness.errors import NemesisError

ASK_TIMEOUT_S: Final = 10.0
LONGEST_LINE_BYTES: Final = 1 << 20


class ConversationEnded(NemesisError):
    """The command has ended, was late, or the connection to it was lost: it may have done the last thing, or not."""


class Dialogue(Protocol):
    """What a transport has of a command that goes on; used by one thread at a time."""

    def send(self, content: bytes, timeout_s: float) -> None:
        """Give it input; raises OSError when it does not take it, TimeoutError when not in time."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """Some of what it has printed, once there is something; empty when it has ended.  Raises as ``send``."""
        ...

    def close(self) -> None:
        """End its input, and let go of it.  Idempotent."""
        ...


class Conversation:
    """Questions are asked one after another, in the order of the calls, be the caller cancelled meanwhile."""

    def __init__(self, name: str, dialogue: Dialogue) -> None:
        self._name = name
        self._dialogue = dialogue
        self._read = bytearray()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"splitvote talk with {name}")
        self._has_ended = False

    async def ask(self, line: bytes, *, timeout_s: float = ASK_TIMEOUT_S) -> bytes:
        """Give it a line (without its end), and wait for one; raises ConversationEnded, from then on each time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, line, timeout_s)

    def _ask(self, line: bytes, timeout_s: float) -> bytes:
        if self._has_ended:
            raise ConversationEnded(f"{self._name}: the command that was asked has ended")
        deadline_s = time.monotonic() + timeout_s
        try:
            self._dialogue.send(line + b"\n", timeout_s)
            return self._line(deadline_s)
        except TimeoutError:
            self._has_ended = True
            raise ConversationEnded(f"{self._name}: no answer within {timeout_s:g} s") from None
        except (OSError, EOFError) as failure:
            self._has_ended = True
            raise ConversationEnded(
                f"{self._name}: the command that was asked is gone: {failure or type(failure).__name__}"
            ) from None

    def _line(self, deadline_s: float) -> bytes:
        while (end := self._read.find(b"\n")) < 0:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            piece = self._dialogue.receive(left_s)
            if not piece:
                raise EOFError("it has ended")
            self._read += piece
            if len(self._read) > LONGEST_LINE_BYTES:
                raise OSError(f"a line of more than {LONGEST_LINE_BYTES} bytes")
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line

    async def close(self) -> None:
        """End the command's input, and wait for what is being asked.  Idempotent."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._has_ended = True
        with contextlib.suppress(OSError):
            self._dialogue.close()
        self._thread.shutdown(wait=True, cancel_futures=True)
