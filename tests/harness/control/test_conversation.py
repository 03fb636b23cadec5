"""Commands that go on and are asked things: in the order of asking, whatever becomes of the asker."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from splitvote.harness.control import ControlError, Conversation, ConversationEnded, Remote
from splitvote.harness.control.local import LocalTransport

ECHO: Final = (
    "import sys, time\n"
    "for line in sys.stdin:\n"
    "    word, _, wait_s = line.strip().partition(' ')\n"
    "    time.sleep(float(wait_s or 0))\n"
    "    if word == 'end': break\n"
    "    print(word, flush=True)\n"
)


@asynccontextmanager
async def talk(script: str = ECHO) -> AsyncIterator[Conversation]:
    remote = Remote("n1", LocalTransport())
    conversation = await remote.converse([sys.executable, "-I", "-S", "-c", script])
    try:
        yield conversation
    finally:
        await conversation.close()
        await remote.close()


def test_each_line_is_answered_by_one_in_the_order_of_asking() -> None:
    async def run() -> None:
        async with talk() as conversation:
            words = [f"w{number}".encode() for number in range(20)]
            assert await asyncio.gather(*map(conversation.ask, words)) == words

    asyncio.run(run())


def test_who_asks_after_a_caller_that_was_cancelled_gets_an_answer_of_its_own() -> None:
    """The question was put all the same, and its answer is nobody else's."""

    async def run() -> None:
        async with talk() as conversation:
            await conversation.ask(b"ready")
            asked = asyncio.create_task(conversation.ask(b"slow 0.2"))
            await asyncio.sleep(0)
            asked.cancel()
            assert await conversation.ask(b"next") == b"next"
            assert asked.cancelled()

    asyncio.run(run())


def test_a_command_that_has_ended_is_told_and_told_again() -> None:
    async def run() -> None:
        async with talk() as conversation:
            for _ in range(2):
                with pytest.raises(ConversationEnded, match="n1: the command that was asked"):
                    await conversation.ask(b"end")

    asyncio.run(run())


def test_a_late_answer_ends_the_conversation_lest_it_be_taken_for_the_next() -> None:
    async def run() -> None:
        async with talk() as conversation:
            await conversation.ask(b"ready")
            with pytest.raises(ConversationEnded, match=r"no answer within 0\.1 s"):
                await conversation.ask(b"slow 1", timeout_s=0.1)
            with pytest.raises(ConversationEnded):
                await conversation.ask(b"next")

    asyncio.run(run())


def test_a_command_ends_when_the_conversation_does() -> None:
    async def run() -> None:
        started_s = time.monotonic()
        async with talk("import os, sys\nprint(os.getpid(), flush=True)\nsys.stdin.read()\n") as conversation:
            await conversation.ask(b"")
            await conversation.close()
            await conversation.close()
        assert time.monotonic() - started_s < 60.0

    asyncio.run(run())


def test_a_command_that_is_not_there_is_no_conversation() -> None:
    async def run() -> None:
        remote = Remote("n1", LocalTransport())
        with pytest.raises(ControlError, match="cannot be run here"):
            await remote.converse(["/no/such/command"])
        await remote.close()

    asyncio.run(run())
