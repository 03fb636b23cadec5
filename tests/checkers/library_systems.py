"""Small systems for the library's checkers, healthy or with one seeded bug, driven by a few overlapping clients.

A system is an object whose operations take effect at one moment.  Each bug is
one switch, and strikes now and then only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.result import Checker, Verdict
from tests.checkers.library_histories import judge

OFTEN = 0.08


class System(Protocol):
    """What clients talk to."""

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        """The next operation that a client wants: f, value, key."""
        ...

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        """Take effect, and return what an ok completion carries."""
        ...


def run(
    system: System, rng: random.Random, *, operations: int, final: tuple[str, Any] | None, fails_happen: bool
) -> History:
    """A history of the system: effects between invocation and completion, one operation in ten crashes or fails.

    A crashed operation takes effect never, or before or long after its
    completion.  ``final`` is asked once all is quiet.  ``fails_happen`` is a bug
    of the clients: what they call failed takes effect.
    """
    driver = Driver(system, rng, fails_happen)
    for _ in range(operations):
        driver.start(driver.free_process(), *system.ask(rng))
        while driver.open and rng.random() < 0.6:
            driver.step()
    while driver.open:
        driver.step()
    if final is not None:
        driver.start(driver.free_process(), *final, None)
        driver.crashes = False
        while driver.open:
            driver.step()
    return History(driver.ops)


class Refused(Exception):
    """The system refused: the operation certainly did not happen."""


class Driver:
    """Five clients of a system, one record at a time."""

    def __init__(self, system: System, rng: random.Random, fails_happen: bool) -> None:
        self.system, self.rng, self.fails_happen = system, rng, fails_happen
        self.ops: list[Op] = []
        self.open: dict[int, tuple[Op, str, Any]] = {}  # what each process waits for: op, how it will end, output
        self.late: list[Op] = []
        self.crashes = True
        self._processes = 5

    def free_process(self) -> int:
        while len(self.open) == 5:
            self.step()
        return next(process for process in range(self._processes - 5, self._processes) if process not in self.open)

    def start(self, process: int, f: str, value: Any, key: Any) -> None:
        op = Op(len(self.ops), len(self.ops) * 1000, process, "invoke", f, key, value)
        self.ops.append(op)
        crash = self.crashes and self.rng.random() < 0.1
        end = self.rng.choice(["fail", "info", "late"]) if crash else "ok"
        self.open[process] = (op, "waiting " + end, None)

    def step(self) -> None:
        """Let one open operation take effect, or complete; now and then a late one takes effect."""
        if self.late and self.rng.random() < 0.2:
            op = self.late.pop()
            with suppress(Refused):
                self.system.apply(self.rng, op.f, op.key, op.value)
            return
        process = self.rng.choice(sorted(self.open))
        op, state, output = self.open.pop(process)
        if state.startswith("waiting "):
            end = state.removeprefix("waiting ")
            if end == "ok" or (end == "info" and self.rng.random() < 0.5) or (end == "fail" and self.fails_happen):
                try:
                    output = self.system.apply(self.rng, op.f, op.key, op.value)
                except Refused:
                    end = "fail"
            elif end == "late":
                self.late.append(op)
            self.open[process] = (op, "info" if end == "late" else end, output)
            return
        value = output if state == "ok" else op.value
        self.ops.append(Op(len(self.ops), len(self.ops) * 1000, process, state, op.f, op.key, value))  # type: ignore[arg-type]


class SetSystem:
    """Adds and reads; bugs: lost, stale, duplicate, phantom."""

    def __init__(self, bug: str | None, *, reads: float = 0.2) -> None:
        self.bug, self.reads, self.next = bug, reads, 0
        self.values: list[int] = []
        self.old: list[int] = []

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        if rng.random() < self.reads:
            return "read", None, None
        self.next += 1
        return "add", self.next, None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        strikes = rng.random() < OFTEN
        if f == "add":
            if not (strikes and self.bug == "lost"):
                self.values.append(value)
            if rng.random() < 0.2:
                self.old = list(self.values)
            return value
        if strikes and self.bug == "stale":
            return list(self.old)
        if self.values and self.bug == "duplicate" and strikes:
            return [*self.values, self.values[0]]
        if strikes and self.bug == "phantom":
            self.values.append(1000 + self.next)
        return list(self.values)


class WriteSystem(SetSystem):
    """Blind writes of unique values, and reads of all; bugs: reversed (a write hides for a while), and SetSystem's."""

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        f, value, key = super().ask(rng)
        return ("write" if f == "add" else f), value, key

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        if f == "write":
            if self.bug == "reversed" and rng.random() < OFTEN:
                self.old.append(value)
            else:
                self.values.append(value)
            return value
        if self.old and rng.random() < 0.3:
            self.values.append(self.old.pop())
        return list(self.values)


class QueueSystem:
    """Enqueues and dequeues; bugs: lost, twice, phantom."""

    def __init__(self, bug: str | None) -> None:
        self.bug, self.next = bug, 0
        self.values: list[int] = []

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        if rng.random() < 0.45:
            return "dequeue", None, None
        self.next += 1
        return "enqueue", self.next, None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        strikes = rng.random() < OFTEN
        if f == "enqueue":
            if not (strikes and self.bug == "lost"):
                self.values.append(value)
            return value
        if f == "drain":
            values, self.values = self.values, []
            return values
        if strikes and self.bug == "phantom":
            return 10_000
        if not self.values:
            return None
        return self.values[0] if strikes and self.bug == "twice" else self.values.pop(0)


class CounterSystem:
    """Adds and reads; bugs: lost, twice (a retry that was not needed), stale."""

    def __init__(self, bug: str | None, *, decrements: bool = False) -> None:
        self.bug, self.decrements = bug, decrements
        self.count = self.old = 0

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        if rng.random() < 0.3:
            return "read", None, None
        return "add", rng.choice([1, 2, 3, -1, -3] if self.decrements else [1, 2, 3]), None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        strikes = rng.random() < 2 * OFTEN
        if f == "read":
            return self.old if strikes and self.bug == "stale" else self.count
        if rng.random() < 0.1:
            self.old = self.count
        self.count += value * (0 if strikes and self.bug == "lost" else 2 if strikes and self.bug == "twice" else 1)
        return value


class IdSystem:
    """Ids; bug: restart (the counter goes back)."""

    def __init__(self, bug: str | None) -> None:
        self.bug, self.next = bug, 0

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        return "generate", None, None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        self.next = max(0, self.next - 2) if self.bug == "restart" and rng.random() < OFTEN else self.next + 1
        return self.next


class BankSystem:
    """Transfers among three accounts; bugs: torn (a read between the halves), overdrawn, invented account."""

    def __init__(self, bug: str | None) -> None:
        self.bug = bug
        self.balances = {"0": 5, "1": 5, "2": 5}
        self.torn: tuple[str, int] | None = None

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        if rng.random() < 0.4:
            return "read", None, None
        source, target = rng.sample(sorted(self.balances), 2)
        return "transfer", {"from": source, "to": target, "amount": rng.randint(1, 4)}, None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        strikes = rng.random() < 2 * OFTEN
        if f == "read":
            seen = dict(self.balances)
            if strikes and self.torn and self.bug == "torn":
                seen[self.torn[0]] -= self.torn[1]
            if strikes and self.bug == "invented account":
                seen["3"] = 0
            return seen
        source, target, amount = value["from"], value["to"], value["amount"]
        if self.balances[source] >= amount or (strikes and self.bug == "overdrawn"):
            self.balances[source] -= amount
            self.balances[target] += amount
            self.torn = (target, amount)
        return value


class ForkSystem:
    """Writes of fresh keys and reads of pairs; bugs: fork (two replicas apply writes in their own order), phantom."""

    def __init__(self, bug: str | None) -> None:
        self.bug, self.next = bug, 0
        self.replicas: list[dict[int, int]] = [{}, {}]
        self.behind: list[tuple[int, int]] = []

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        if self.next and rng.random() < 0.6:
            first = (self.next - 1) // 2 * 2
            return "txn", [["r", key, None] for key in rng.sample([first, first + 1], 2)], None
        self.next += 1
        return "txn", [["w", self.next - 1, 1]], None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        if value[0][0] == "w":
            key = value[0][1]
            home = key % 2
            self.replicas[home][key] = 1
            if self.bug == "fork" and rng.random() < 0.5:
                self.behind.append((1 - home, key))
            else:
                self.replicas[1 - home][key] = 1
            return value
        replica = rng.randrange(2)
        while self.behind and rng.random() < 0.2:
            late, key = self.behind.pop(0)
            self.replicas[late][key] = 1
        seen = self.replicas[replica]
        if self.bug == "phantom" and rng.random() < OFTEN:
            return [["r", key, 2] for _, key, _ in value]
        return [["r", key, seen.get(key)] for _, key, _ in value]


class SiteSystem:
    """One site's register; bugs: stale (a read of the value before)."""

    def __init__(self, bug: str | None) -> None:
        self.bug, self.value, self.before, self.next = bug, 0, 0, 0

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        if rng.random() < 0.6:
            return "read", None, None
        self.next += 1
        return "write", self.next, None

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        if f == "write":
            self.before, self.value = self.value, value
            return value
        return self.before if self.bug == "stale" and rng.random() < OFTEN else self.value


class InsertSystem:
    """Two inserts a key, guarded by a predicate; bug: skew (both see nothing)."""

    def __init__(self, bug: str | None) -> None:
        self.bug, self.next = bug, 0
        self.rows: set[int] = set()

    def ask(self, rng: random.Random) -> tuple[str, Any, Any]:
        self.next += 1
        pair = [self.next, None] if self.next % 2 else [None, self.next]
        return "insert", pair, (self.next - 1) // 2

    def apply(self, rng: random.Random, f: str, key: Any, value: Any) -> Any:
        if key in self.rows and not (self.bug == "skew" and rng.random() < 4 * OFTEN):
            raise Refused
        self.rows.add(key)
        return value


def verdicts(
    checker: Checker,
    make: Callable[[], System],
    *,
    runs: int = 40,
    operations: int = 80,
    final: tuple[str, Any] | None = None,
    fails_happen: bool = False,
) -> Counter[Verdict]:
    """The checker's verdicts on that many runs of a system, each of its own seed."""
    found: Counter[Verdict] = Counter()
    for seed in range(runs):
        recorded = run(make(), random.Random(seed), operations=operations, final=final, fails_happen=fails_happen)
        found[judge(checker, recorded).verdict] += 1
    return found
