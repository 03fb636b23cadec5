"""Histories for the library's checkers: written by hand, or random; and how a checker judges them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Checker, Result, Verdict

Choose = Callable[[random.Random], tuple[str, Any]]
Answer = Callable[[random.Random, str, Any], Any]


def history(text: str) -> History:
    """A record a line, ``PROCESS TYPE F [VALUE [KEY]]``, value and key in JSON; times are 1 ms apart.

    A completion without a value keeps its invocation's.
    """
    ops: list[Op] = []
    asked: dict[int, Op] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        process_text, type_, f, *rest = line.split(None, 3)
        process = int(process_text)
        value, key = _value_and_key(rest[0]) if rest else (None, None)
        invoke = asked.get(process)
        if type_ != "invoke" and invoke is not None:
            value = value if rest else invoke.value
            key = invoke.key
        op = Op(index=len(ops), time_ns=len(ops) * 10**6, process=process, type=type_, f=f, key=key, value=value)  # type: ignore[arg-type]
        if type_ == "invoke":
            asked[process] = op
        ops.append(op)
    return History(ops)


def _value_and_key(text: str) -> tuple[Any, Any]:
    decoder = json.JSONDecoder()
    value, end = decoder.raw_decode(text)
    rest = text[end:].strip()
    return value, json.loads(rest) if rest else None


def judge(checker: Checker, found: History | str) -> Result:
    """The checker's result, without the net that turns a crash into UNKNOWN."""
    recorded = history(found) if isinstance(found, str) else found
    result = checker.check(Recording(recorded), Budget())
    check_shape(result, recorded)
    return result


def check_shape(result: Result, recorded: History) -> None:
    """What every result keeps: a reason unless VALID, evidence for INVALID, stories about records of the history."""
    assert (result.verdict is Verdict.VALID) == (result.reason is None)
    assert (result.verdict is Verdict.INVALID) == bool(result.anomalies)
    known = {op.index: op for op in recorded}
    for anomaly in result.anomalies:
        assert anomaly.ops
        assert anomaly.story[0].isupper()
        assert anomaly.story.endswith(".")
        assert [op.index for op in anomaly.ops] == sorted({op.index for op in anomaly.ops})
        assert all(known[op.index] == op for op in anomaly.ops)


def without(recorded: History, indices: set[int]) -> History:
    """The history without some records."""
    return History(op for op in recorded if op.index not in indices)


def only(recorded: History, result: Result) -> History:
    """The history of nothing but the first anomaly's records."""
    return without(recorded, {op.index for op in recorded} - {op.index for op in result.anomalies[0].ops})


def random_history(
    rng: random.Random, choose: Choose, answer: Answer, *, operations: int, processes: int = 3, crashes: float = 0.25
) -> History:
    """Overlapping operations of a few processes with answers that nobody checked; a quarter crash or fail."""
    ops: list[Op] = []
    open_ops: dict[int, Op] = {}
    left = operations
    while left or open_ops:
        process = rng.randrange(processes)
        index = len(ops)
        invoke = open_ops.pop(process, None)
        if invoke is not None:
            type_ = rng.choice(["fail", "info"]) if rng.random() < crashes else "ok"
            value = answer(rng, invoke.f, invoke.value) if type_ == "ok" else invoke.value
            ops.append(Op(index, index * 10, process, type_, invoke.f, invoke.key, value))  # type: ignore[arg-type]
        elif left:
            left -= 1
            f, value = choose(rng)
            open_ops[process] = Op(index, index * 10, process, "invoke", f, None, value)
            ops.append(open_ops[process])
        if not left and rng.random() < 0.1:
            break
    return History(ops)
