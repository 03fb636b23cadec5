"""Bugs seeded into the library's checkers themselves: the fuzz must find each of them.

A mutant is the checker's source with one change; it is fuzzed like the
original.  One that survives says that the fuzz is too weak.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from splitvote.checkers import adya, bank, causal, counter, fifo, long_fork, queues, set_full, sets, unique_ids
from tests.checkers import fuzz_library
from tests.checkers.fuzz_library import SUBJECTS, fuzz

MUTANTS: list[tuple[str, ModuleType, str, str, dict[str, Any]]] = [
    ("set", sets, "_completed(add) < read.invoke.index", "_completed(add) < _completed(read)", {}),
    ("set", sets, 'add.type != "fail" and add', "add", {}),
    ("set", sets, "max(reads, key=_completed", "max(reads, key=lambda op: op.invoke.index", {}),
    ("set", sets, "value not in judged or not", "value in judged and not", {}),
    ("set-full", set_full, "missed = self.known < self.last_absent", "missed = self.last_absent >= 0", {}),
    ("set-full", set_full, "stable = self.last_absent", "stable = self.known", {}),
    ("set-full", set_full, "np.searchsorted(first_add, ended)", "len(first_add)", {}),
    ("set-full", set_full, "if count > self.dup", "if count < self.dup", {}),
    ("set-full", set_full, "self.last_absent[missing] = np.maximum(self.last_absent[missing], began)", "pass", {}),
    ("set-full", set_full, "> _completed(read)  # -1", "> _NEVER  # -1", {}),
    (
        "set-full linearizable",
        set_full,
        "self.known[place] < self.last_absent",
        "-1 < self.last_absent",
        {"linearizable": True},
    ),
    ("set-full linearizable", set_full, "seen[self.known[seen] > ended]", "seen[:0]", {"linearizable": True}),
    ("queue", queues, "add.invoke.index < index for", "True for", {}),
    ("queue", queues, 'add.type != "fail" and add.invoke', "add.invoke", {}),
    ("queue", queues, "sorted(ends, key=completed)", "sorted(ends, key=lambda op: op.invoke.index)", {}),
    ("total-queue", queues, 'add.type == "ok" for add in adds', 'add.type != "fail" for add in adds', {}),
    ("total-queue", queues, "lost.total() <= len", "lost.total() < len", {}),
    ("total-queue", queues, "lost = acknowledged - taken", "lost = Counter(set(acknowledged) - set(taken))", {}),
    ("total-queue", queues, "taken - named", "taken", {}),
    ("total-queue", queues, "len(operations) for value", "99 for value", {}),
    ("fifo", fifo, "since < y.enqueue.invoke.index", "since < y.since", {}),
    ("fifo", fifo, "y.left < longest.until", "y.left <= longest.since", {}),
    ("fifo", fifo, "return inf if self.taker is None else completed(self.taker)", "return self.until", {}),
    ("fifo", fifo, 'completed(add) if add.type == "ok" else inf', "add.invoke.index", {}),
    ("fifo", fifo, "until: float = taker.invoke.index", "until: float = completed(taker)", {}),
    ("fifo", fifo, "other.until > one.until", "other.until < one.until", {}),
    ("fifo", fifo, "bisect_right(starts, reached)", "bisect_right(starts, completed(dequeue))", {}),
    ("fifo", fifo, "reached < completed(dequeue)", "reached <= dequeue.invoke.index", {}),
    ("fifo", fifo, "traffic.may_be_taken.get(value, ())", "()", {}),
    ("counter", counter, "(amount > 0) == is_start", "is_start", {}),
    ("counter", counter, "bounds[1] = max(bounds[1], greatest)", "pass", {}),
    ("counter", counter, "bounds[0] = min(bounds[0], least)", "pass", {}),
    ("counter", counter, 'elif operation.type == "info" and', 'elif operation.type == "fail" and', {}),
    ("unique-ids", unique_ids, "len(operations) > 1}", "len(operations) > 2}", {}),
    ("unique-ids", unique_ids, 'if operation.type == "ok"', 'if operation.type != "info"', {}),
    ("bank", bank, "balance < 0", "balance < -1", {"accounts": ["0", "1"], "total": 3}),
    ("bank", bank, "!= total", "> total", {"accounts": ["0", "1"], "total": 3}),
    ("bank", bank, "if name not in self._accounts", "if not name", {"accounts": ["0", "1"], "total": 3}),
    ("long-fork", long_fork, "if not fewer <= more", "if fewer.isdisjoint(more)", {}),
    ("long-fork", long_fork, 'if write.type == "fail"', 'if write.type == "none"', {}),
    ("long-fork", long_fork, 'elif operation.type != "fail"', "else", {}),
    ("causal", causal, "self.crashed.remove(late)", "pass", {}),
    ("causal", causal, "self.initial if operation.output is None", "self.value if operation.output is None", {}),
    ("causal", causal, "self.crashed.append(operation)", "pass", {}),
    ("causal", causal, "operation.invoke.index < _completed(last)", "False", {}),
    (
        "causal-reverse",
        causal,
        "bisect_left(times, write.invoke.index)",
        "bisect_left(times, write.invoke.index + 3)",
        {},
    ),
    ("causal-reverse", causal, "max((value for value in seen", "min((value for value in seen", {}),
    ("causal-reverse", causal, "first.setdefault(element", "first.__setitem__(element", {}),
    ("adya-g2", adya, "if len(ops) > 1}", "if len(ops) > 2}", {}),
    ("adya-g2", adya, 'op.type != "info" for op', 'op.type == "ok" for op', {}),
]


@contextmanager
def mutated(module: ModuleType, old: str, new: str) -> Iterator[ModuleType]:
    """The module with one change in its source, under a name of its own."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {module.__name__}: write the mutant anew"
    name = f"{module.__name__}_mutant"
    made = ModuleType(name)
    sys.modules[name] = made  # dataclasses look their module up
    try:
        exec(compile(source.replace(old, new), f"<mutant of {module.__name__}>", "exec"), made.__dict__)
        yield made
    finally:
        del sys.modules[name]


def survives(name: str) -> bool:
    """Whether 3000 histories show no difference; a checker that crashes shows one, too."""
    try:
        fuzz(name, histories=3000, seed=99)
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "module", "old", "new", "options"), MUTANTS, ids=[f"{name}-{old[:30]}" for name, _, old, _, _ in MUTANTS]
)
def test_the_fuzz_finds_bugs_in_checkers(
    monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType, old: str, new: str, options: dict[str, Any]
) -> None:
    with mutated(module, old, new) as made:
        checker = getattr(made, type(SUBJECTS[name].checker).__name__)(**options)
        monkeypatch.setitem(fuzz_library.SUBJECTS, name, replace(SUBJECTS[name], checker=checker))
        assert not survives(name)
