"""What a node is to everybody else, alike over ssh, docker exec and subprocess."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from splitvote.harness.control import CommandFailed, Remote
from splitvote.harness.control.remote import GRACE_S, SIGNALLED

BINARY = bytes(range(256))
BIG = os.urandom(1 << 16) * 48
"""More than the windows and pipes on the way hold."""

END_SEEN_S = 20.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(END_SEEN_S):
        while not await condition():  # noqa: ASYNC110  # nobody tells: it is looked up
            await asyncio.sleep(0.05)


def test_a_command_gives_its_status_and_both_outputs(node: Remote) -> None:
    done = asyncio.run(node.sh("printf out; printf err >&2; exit 3", expected=(0, 3)))
    assert (done.status, done.stdout, done.stderr) == (3, b"out", b"err")


def test_words_reach_the_command_as_they_are(node: Remote) -> None:
    """No shell expands them, whatever is in them."""
    words = ["a b", "", "$HOME", "'", '"', "`id`", "line\nline", "*", "\\", "ä;|&"]
    done = asyncio.run(node.run(["printf", "%s.", *words]))
    assert done.text == "".join(f"{word}." for word in words)


def test_a_status_that_was_not_expected_is_an_error_with_the_commands_own_words(node: Remote) -> None:
    with pytest.raises(CommandFailed, match=r"n1: `ls /no/such/folder` failed: .*No such file") as failed:
        asyncio.run(node.run(["ls", "/no/such/folder"]))
    assert failed.value.status == 2
    assert asyncio.run(node.run(["ls", "/no/such/folder"], expected=None)).status == 2


def test_a_program_that_is_not_there_is_named(node: Remote) -> None:
    with pytest.raises(CommandFailed, match="no-such-program") as failed:
        asyncio.run(node.run(["no-such-program"]))
    assert failed.value.status == 127


def test_bytes_come_through_as_they_are(node: Remote) -> None:
    assert asyncio.run(node.run(["cat"], stdin=BINARY)).stdout == BINARY


def test_a_command_may_print_while_it_reads(node: Remote) -> None:
    """Its input is not all given before its output is taken, which would be a deadlock."""
    assert asyncio.run(node.run(["cat"], stdin=BIG, timeout_s=60)).stdout == BIG


def test_a_command_may_complain_at_length_before_it_prints(node: Remote) -> None:
    """What it complains of is taken as well, or it would wait for us, and we for its output."""
    done = asyncio.run(node.sh(f"head -c {len(BIG)} /dev/zero >&2; printf done", timeout_s=60))
    assert done.stdout == b"done"
    assert done.stderr == bytes(len(BIG))


def test_a_command_need_not_read_its_input(node: Remote) -> None:
    assert asyncio.run(node.run(["true"], stdin=BIG, timeout_s=60)).status == 0


def test_a_command_that_hangs_is_ended_with_all_it_started_and_says_so(node: Remote) -> None:
    async def scene() -> None:
        started_s = time.monotonic()
        with pytest.raises(CommandFailed, match=r"not done within 1 s, and was ended$") as late:
            await node.sh("sleep 600 & echo $! >/tmp/splitvote-child; wait", timeout_s=1)
        assert late.value.status is None
        assert time.monotonic() - started_s < 1 + GRACE_S + END_SEEN_S
        child = (await node.run(["cat", "/tmp/splitvote-child"])).text.strip()

        async def is_gone() -> bool:
            state = await node.sh('cat "/proc/$1/stat" 2>/dev/null', child, expected=None)
            return state.text == "" or state.text.rpartition(")")[2].split()[0] == "Z"  # nobody reaps it, perhaps

        await until(is_gone)
        await node.run(["rm", "/tmp/splitvote-child"])

    asyncio.run(scene())


def test_a_command_ended_by_a_signal_is_no_late_one(node: Remote) -> None:
    with pytest.raises(CommandFailed, match="failed: exit status") as failed:
        asyncio.run(node.sh("kill -TERM $$"))
    assert failed.value.status is not None
    assert failed.value.status >= SIGNALLED


def test_commands_run_beside_each_other(node: Remote) -> None:
    async def scene() -> None:
        both = [node.sh("echo >/tmp/splitvote-$1; until [ -e /tmp/splitvote-$2 ]; do sleep 0.02; done", a, b)
                for a, b in (("a", "b"), ("b", "a"))]  # fmt: skip
        await asyncio.gather(*both)
        await node.run(["rm", "/tmp/splitvote-a", "/tmp/splitvote-b"])

    asyncio.run(scene())


def test_a_file_is_brought_with_its_mode_and_fetched_again(node: Remote, tmp_path: Path) -> None:
    async def scene() -> None:
        (tmp_path / "ours").write_bytes(BIG)
        await node.upload(tmp_path / "ours", "/tmp/splitvote file", mode=0o751)
        assert (await node.run(["stat", "-c", "%a", "/tmp/splitvote file"])).text.strip() == "751"
        await node.download("/tmp/splitvote file", tmp_path / "theirs")
        assert (tmp_path / "theirs").read_bytes() == BIG
        await node.upload(BINARY, "/tmp/splitvote file", mode=0o600)
        assert (await node.run(["cat", "/tmp/splitvote file"])).stdout == BINARY
        await node.run(["rm", "/tmp/splitvote file"])

    asyncio.run(scene())


def test_a_file_that_cannot_be_put_there_is_an_error(node: Remote) -> None:
    with pytest.raises(CommandFailed, match=r"n1: `upload /no/such/file` failed: .*(No such file|nonexistent)"):
        asyncio.run(node.upload(b"content", "/no/such/file"))


def test_what_could_not_be_fetched_leaves_nothing_here(node: Remote, tmp_path: Path) -> None:
    """Nor does it take away what was there before."""
    (tmp_path / "kept").write_text("kept")
    for destination in ("fresh", "kept"):
        with pytest.raises(CommandFailed, match="No such file"):
            asyncio.run(node.download("/no/such/file", tmp_path / destination))
    with pytest.raises(CommandFailed, match="exit status 4"):
        asyncio.run(node.save(["sh", "-c", "printf half; exit 4"], tmp_path / "fresh"))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"kept": "kept"}
