"""The scheduler: what it records is well-formed, whatever clients, generators and the user do to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.client import Emit
from splitvote.harness.generator import GeneratorLike
from splitvote.harness.history import History, HistoryWriter, read_history
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.runner import Runner

Invoke = Callable[[Op, Emit], Any]


async def succeed(op: Op, emit: Emit) -> Op:
    await asyncio.sleep(0)
    return op.completed("ok")


async def hang(op: Op, emit: Emit) -> Op:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


class Clients:
    """A binding whose clients all do the same; it counts who was opened and closed."""

    def __init__(self, invoke: Invoke = succeed) -> None:
        self._invoke = invoke
        self.opened: list[tuple[int, str]] = []
        self.closed: list[int] = []

    async def open(self, process: int, node: str) -> OneClient:
        self.opened.append((process, node))
        return OneClient(self, process)

    async def close(self) -> None: ...


class OneClient:
    def __init__(self, clients: Clients, process: int) -> None:
        self._clients = clients
        self._process = process

    async def setup(self) -> None: ...

    async def invoke(self, op: Op, emit: Emit) -> Op:
        result: Op = await self._clients._invoke(op, emit)
        return result

    async def teardown(self) -> None: ...

    async def close(self) -> None:
        self._clients.closed.append(self._process)


class Nemesis:
    async def invoke(self, op: Op) -> Op:
        return op.completed("info", value="done")


def numbers(count: int) -> Callable[[], Op | None]:
    """A generator of ``count`` writes."""
    left = iter(range(count))
    return lambda: next((Op(f="write", value=n) for n in left), None)


def execute(
    tmp_path: Path,
    *phases: GeneratorLike,
    binding: Clients | None = None,
    concurrency: int = 3,
    during: Callable[[Runner], None] | None = None,
    **options: Any,
) -> tuple[History, Runner]:
    """Run the phases one after another and read the history back; ``during`` is done once all threads are at work."""
    path = tmp_path / "history.jsonl"

    async def act(runner: Runner, during: Callable[[Runner], None]) -> None:
        while sum(runner.counts.values()) < concurrency:  # noqa: ASYNC110
            await asyncio.sleep(0)
        during(runner)

    async def go() -> Runner:
        writer = HistoryWriter(path)
        runner = Runner(
            binding=binding or Clients(),
            nodes=("n1", "n2"),
            history=writer,
            concurrency=concurrency,
            seed=7,
            **options,
        )
        acting = None if during is None else asyncio.create_task(act(runner, during))
        for phase in phases:
            await runner.run(phase)
        if acting is not None:
            await acting
        await runner.close()
        writer.close()
        return runner

    runner = asyncio.run(go())
    return read_history(path), runner


def test_every_invocation_is_recorded_with_its_completion(tmp_path: Path) -> None:
    history, runner = execute(tmp_path, numbers(50))
    assert runner.failure is None
    assert [op.index for op in history] == list(range(100))
    assert sorted(operation.invoke.value for operation in history.operations) == list(range(50))
    assert {operation.type for operation in history.operations} == {"ok"}
    assert all(a.time_ns <= b.time_ns for a, b in itertools.pairwise(history))
    assert runner.counts == {("write", "invoke"): 50, ("write", "ok"): 50}


def test_all_threads_work_at_once(tmp_path: Path) -> None:
    at_work = 0
    most = 0

    async def watched(op: Op, emit: Emit) -> Op:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        return op.completed("ok")

    execute(tmp_path, numbers(50), binding=Clients(watched), concurrency=5)
    assert most == 5


def test_an_info_ends_the_process_and_the_thread_goes_on_as_another_with_a_new_client(tmp_path: Path) -> None:
    async def lose(op: Op, emit: Emit) -> Op:
        return op.completed("info", error="deadline: lost")

    binding = Clients(lose)
    history, _ = execute(tmp_path, numbers(4), binding=binding, concurrency=1)
    assert [operation.process for operation in history.operations] == [0, 1, 2, 3]
    assert binding.opened == [(0, "n1"), (1, "n2"), (2, "n1"), (3, "n2")]
    assert binding.closed == [0, 1, 2, 3]


def test_a_client_is_kept_while_its_process_lives(tmp_path: Path) -> None:
    binding = Clients()
    execute(tmp_path, numbers(20), binding=binding, concurrency=2)
    assert len(binding.opened) == 2
    assert sorted(binding.closed) == [0, 1]


def test_what_hangs_is_cut_off_by_the_backstop_as_info(tmp_path: Path) -> None:
    history, runner = execute(tmp_path, numbers(3), binding=Clients(hang), backstop_s=0.05)
    assert runner.failure is None
    assert {
        (operation.type, operation.completion.error) for operation in history.operations if operation.completion
    } == {("info", "backstop: no answer within 0.05 s")}
    assert len(history.operations) == 3


def test_stopping_ends_open_operations_as_info_and_invokes_nothing_more(tmp_path: Path) -> None:
    history, runner = execute(tmp_path, numbers(100), binding=Clients(hang), during=lambda runner: runner.stop())
    assert runner.failure is None
    assert [operation.type for operation in history.operations] == ["info"] * 3
    assert all("interrupted" in (op.error or "") for op in history if op.type == "info")


def test_stopping_right_after_a_dispatch_loses_no_operation(tmp_path: Path) -> None:
    runners: list[Runner] = []

    def stop_at_the_first(op: Op) -> None:
        if op.type == "invoke":
            runners[0]._loop.call_soon(runners[0].stop)

    path = tmp_path / "history.jsonl"

    async def go() -> None:
        writer = HistoryWriter(path)
        runner = Runner(
            binding=Clients(hang), nodes=("n1",), history=writer, concurrency=3, seed=1, on_record=stop_at_the_first
        )
        runners.append(runner)
        await asyncio.wait_for(runner.run(numbers(10)), 120)
        await runner.close()
        writer.close()

    asyncio.run(go())
    assert {operation.type for operation in read_history(path).operations} == {"info"}


def test_a_client_that_raises_is_our_failure_recorded_as_info_and_ends_the_run(tmp_path: Path) -> None:
    async def crash(op: Op, emit: Emit) -> Op:
        if op.value == 5:
            raise KeyError("oops")
        return op.completed("ok")

    history, runner = execute(tmp_path, numbers(1000), numbers(10), binding=Clients(crash))
    assert isinstance(runner.failure, KeyError)
    crashed = [op for op in history if (op.error or "").startswith("crash: KeyError")]
    assert [(op.type, op.value) for op in crashed] == [("info", 5)]
    assert len(history.operations) < 20


@pytest.mark.parametrize("spoil", [{"process": 99}, {"type": "invoke"}])
def test_a_malformed_completion_is_our_failure(tmp_path: Path, spoil: dict[str, Any]) -> None:
    import msgspec

    async def malformed(op: Op, emit: Emit) -> Op:
        return msgspec.structs.replace(op.completed("ok"), **spoil)

    history, runner = execute(tmp_path, numbers(1), binding=Clients(malformed))
    assert "malformed completion" in str(runner.failure)
    assert [operation.type for operation in history.operations] == ["info"]


def test_events_belong_to_the_operation_that_is_open(tmp_path: Path) -> None:
    async def watch(op: Op, emit: Emit) -> Op:
        for seen in range(3):
            emit(op.completed("event", value=seen))
        return op.completed("ok")

    history, _ = execute(tmp_path, numbers(2), binding=Clients(watch))
    assert {index: [event.value for event in events] for index, events in history.events.items()} == {
        operation.invoke.index: [0, 1, 2] for operation in history.operations
    }


def test_the_nemesis_is_a_process_of_its_own_whose_records_are_info(tmp_path: Path) -> None:
    from splitvote.harness.generator import any_of, clients, nemesis

    generator = any_of(clients(numbers(5)), nemesis(Op(f="kill", value=["n1"])))
    history, runner = execute(tmp_path, generator, nemesis=Nemesis())
    assert runner.failure is None
    assert [(op.process, op.type, op.f, op.value) for op in history.nemesis] == [
        (NEMESIS, "info", "kill", ["n1"]),
        (NEMESIS, "info", "kill", "done"),
    ]
    assert len(history.operations) == 5


def test_an_operation_in_the_future_waits_for_its_time(tmp_path: Path) -> None:
    history, _ = execute(tmp_path, [Op(f="write", time_ns=60_000_000), Op(f="write")])
    first, second = (operation.invoke.time_ns for operation in history.operations)
    assert first >= 60_000_000
    assert second >= first


def test_phases_continue_one_history(tmp_path: Path) -> None:
    history, _ = execute(tmp_path, numbers(3), [Op(f="read"), Op(f="read")])
    assert [operation.f for operation in history.operations] == ["write"] * 3 + ["read"] * 2
    assert [op.index for op in history] == list(range(10))


def test_a_generator_that_raises_ends_the_run_with_its_error(tmp_path: Path) -> None:
    def broken() -> Op:
        raise ZeroDivisionError("in the generator")

    history, runner = execute(tmp_path, broken)
    assert isinstance(runner.failure, ZeroDivisionError)
    assert len(history) == 0


def test_a_full_disk_ends_the_run_and_is_reported() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")

    async def go() -> Runner:
        writer = HistoryWriter(full)
        runner = Runner(binding=Clients(hang), nodes=("n1",), history=writer, concurrency=1, seed=1)
        await asyncio.wait_for(runner.run(numbers(10)), 120)
        await runner.close()
        with pytest.raises(Exception, match="No space left"):
            writer.close()
        return runner

    assert "No space left" in str(asyncio.run(go()).failure)
