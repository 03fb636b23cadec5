"""What is alike over all transports because it is above them: accounts, whole files, all nodes at once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from splitvote.harness.control import CommandFailed, Remote, Unreachable, on_all
from splitvote.harness.control.conversation import Dialogue
from splitvote.harness.control.local import LocalTransport


class Recording:
    """A transport on which every command succeeds at once, or fails in one way."""

    def __init__(self, *, is_root: bool = False, failure: Exception | None = None) -> None:
        self.is_root = is_root
        self.commands: list[list[str]] = []
        self._failure = failure

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        self.commands.append([*command])
        if self._failure is not None:
            raise self._failure
        return 0, b""

    def converse(self, command: Sequence[str], *, timeout_s: float) -> Dialogue:
        raise AssertionError("nobody talks here")

    def close(self) -> None:
        pass


class LosingHalf(LocalTransport):
    """A connection that is lost in the middle of what is sent: the node sees the input end."""

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        content = stdin.read()
        super().execute(command, stdin=io.BytesIO(content[: len(content) // 2]), stdout=stdout, timeout_s=timeout_s)
        raise OSError("the connection was lost")


@pytest.mark.parametrize(
    ("is_root", "account", "words"),
    [
        (False, "login", ["timeout", "-s", "KILL", "10", "id"]),
        (False, "root", ["sudo", "-n", "--", "timeout", "-s", "KILL", "10", "id"]),
        (True, "root", ["timeout", "-s", "KILL", "10", "id"]),
    ],
)
def test_root_is_reached_by_sudo_which_never_asks(is_root: bool, account: str, words: list[str]) -> None:
    """The bound is within, since only root may end what root has started."""
    transport = Recording(is_root=is_root)
    asyncio.run(Remote("n1", transport).run(["id"], account=account))  # type: ignore[arg-type]
    assert transport.commands == [words]


def test_a_bound_is_never_shorter_than_asked_for() -> None:
    """Bounds on nodes are whole seconds, since not every `timeout` knows others."""
    transport = Recording()
    asyncio.run(Remote("n1", transport).run(["id"], timeout_s=0.4))
    assert transport.commands[0][3] == "1"


def test_nobody_knows_what_became_of_a_command_whose_connection_was_lost() -> None:
    """It is not run again: it may have been carried out."""
    transport = Recording(failure=OSError("reset by peer"))
    with pytest.raises(CommandFailed, match="nobody knows what became of `kill -9 1`: reset by peer") as failed:
        asyncio.run(Remote("n1", transport).run(["kill", "-9", "1"]))
    assert failed.value.status is None
    assert len(transport.commands) == 1


def test_a_command_that_could_not_be_ended_may_run_still() -> None:
    transport = Recording(failure=TimeoutError())
    with pytest.raises(CommandFailed, match="not done within 2 s, and may run still"):
        asyncio.run(Remote("n1", transport).run(["id"], timeout_s=2))


def test_a_node_out_of_reach_is_told_from_a_failed_command() -> None:
    with pytest.raises(Unreachable, match="no way"):
        asyncio.run(Remote("n1", Recording(failure=Unreachable("no way"))).run(["id"]))


def test_half_a_file_is_never_put_in_its_place(tmp_path: Path) -> None:
    """A connection that is lost ends the input of what receives the file, as the file's end does."""
    file = tmp_path / "file"
    file.write_text("before")
    with pytest.raises(CommandFailed, match="nobody knows"):
        asyncio.run(Remote("n1", LosingHalf()).upload(b"0123456789", str(file)))
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"file": "before"}


def test_all_nodes_are_done_at_once_and_all_are_waited_for_before_a_failure_is_raised() -> None:
    async def scene() -> None:
        done: list[str] = []
        barrier = asyncio.Barrier(3)

        async def work(name: str, length: int) -> int:
            await barrier.wait()
            if name == "a":
                raise Unreachable("a is gone")
            await asyncio.sleep(0)
            done.append(name)
            return length

        with pytest.raises(Unreachable, match="a is gone"):
            await on_all({"a": 1, "b": 2, "c": 3}, work)
        assert sorted(done) == ["b", "c"]

    asyncio.run(scene())


def test_what_came_of_each_node_is_told_by_its_name() -> None:
    async def work(name: str, number: int) -> str:
        return f"{name}{number}"

    assert asyncio.run(on_all({"b": 2, "a": 1}, work)) == {"b": "b2", "a": "a1"}
