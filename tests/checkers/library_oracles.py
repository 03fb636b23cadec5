"""Brute force for the library's checkers: try every moment at which every operation may have taken effect.

Nothing here is clever, and nothing is shared with the checkers but the records.
A moment is a gap between records: effects happen at ``index + 0.5``, and reads
look just before or just after that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import Any

from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.result import Verdict

NEVER = float("inf")


def by_f(history: History, *names: str) -> list[Operation]:
    return [operation for operation in history.operations if operation.f in names]


def oks(history: History, *names: str) -> list[Operation]:
    return [operation for operation in by_f(history, *names) if operation.type == "ok"]


def end_of(operation: Operation) -> int:
    assert operation.completion is not None
    return operation.completion.index


def moments(operation: Operation, history: History) -> list[float]:
    """Every moment at which the operation may have taken effect; NEVER is among them unless it is ok."""
    start = operation.invoke.index
    if operation.type == "ok":
        return [index + 0.5 for index in range(start, end_of(operation))]
    if operation.type == "fail":
        return [NEVER]
    return [*(index + 0.5 for index in range(start, history[-1].index + 1)), NEVER]


def first_effects(adds: list[Operation], history: History) -> set[float]:
    """Every moment that can be the earliest effect of any of the adds; NEVER where there are none."""
    return {min(choice, default=NEVER) for choice in product(*(moments(add, history) for add in adds))}


def looks(read: Operation) -> list[float]:
    """Every moment at which a read may have looked."""
    return [index + part for index in range(read.invoke.index, end_of(read)) for part in (0.4, 0.6)]


def explains(effect: float, read: Operation, value: Any) -> bool:
    """Whether the read may have seen the value exactly if it was there from ``effect`` on."""
    present = value in read.output
    return any((effect < look) == present for look in looks(read))


def all_values(history: History, adds: str, reads: str) -> set[Any]:
    found = {operation.invoke.value for operation in by_f(history, adds)}
    return found.union(*(read.output for read in oks(history, reads)))


def is_set_of_reads(history: History, reads: list[Operation]) -> bool:
    """Whether some effects of the adds explain, value by value, what all these reads returned."""
    for value in all_values(history, "add", "read"):
        adds = [add for add in by_f(history, "add") if add.invoke.value == value]
        if not any(all(explains(effect, read, value) for read in reads) for effect in first_effects(adds, history)):
            return False
    return True


def set_oracle(history: History) -> Verdict:
    reads = sorted(oks(history, "read"), key=end_of)
    if not reads:
        return Verdict.UNKNOWN
    last = reads[-1]
    seen = set(last.output)
    for value in all_values(history, "add", "read") - seen:  # what only earlier reads hold does not count
        adds = [add for add in by_f(history, "add") if add.invoke.value == value]
        if not any(explains(effect, last, value) for effect in first_effects(adds, history)):
            return Verdict.INVALID
    for value in seen:
        adds = [add for add in by_f(history, "add") if add.invoke.value == value]
        if not any(explains(effect, last, value) for effect in first_effects(adds, history)):
            return Verdict.INVALID
    return Verdict.VALID


def set_full_outcomes(history: History) -> dict[Any, str]:
    """What becomes of every attempted element, straight from the definitions."""
    reads = oks(history, "read")
    outcomes = {}
    for value in dict.fromkeys(add.invoke.value for add in by_f(history, "add")):
        adds = [add for add in by_f(history, "add") if add.invoke.value == value]
        hopes = [add.invoke.index for add in adds if add.type != "fail"]
        believable = [read for read in reads if value in read.output and hopes and hopes[0] < end_of(read)]
        missing = [read for read in reads if value not in read.output and adds[0].invoke.index < end_of(read)]
        known = min([end_of(op) for op in [*believable, *(add for add in adds if add.type == "ok")]], default=NEVER)
        last_seen = max((read.invoke.index for read in believable), default=-1)
        last_missed = max((read.invoke.index for read in missing if read not in believable), default=-1)
        if believable and last_missed < last_seen:
            outcomes[value] = "stale" if last_missed > known else "stable"
        elif last_missed > known and last_missed > last_seen:
            outcomes[value] = "lost"
        else:
            outcomes[value] = "never-read"
    return outcomes


def set_full_oracle(history: History) -> Verdict:
    """INVALID for lost elements, duplicates, and elements that nothing explains; UNKNOWN where nothing is stable."""
    outcomes = set_full_outcomes(history)
    wrong = "lost" in outcomes.values() or any(_is_phantom(history, read) for read in oks(history, "read"))
    if wrong:
        return Verdict.INVALID
    return Verdict.VALID if {"stable", "stale"} & set(outcomes.values()) else Verdict.UNKNOWN


def _is_phantom(history: History, read: Operation) -> bool:
    if len(set(read.output)) < len(read.output):
        return True
    for value in read.output:
        adds = [add for add in by_f(history, "add") if add.invoke.value == value]
        if not any(explains(effect, read, value) for effect in first_effects(adds, history)):
            return True
    return False


def linearizable_set_oracle(history: History) -> Verdict:
    """INVALID unless effects of the adds explain all reads at once, element by element."""
    reads = oks(history, "read")
    if any(len(set(read.output)) < len(read.output) for read in reads) or not is_set_of_reads(history, reads):
        return Verdict.INVALID
    outcomes = set_full_outcomes(history)
    return Verdict.VALID if {"stable", "stale"} & set(outcomes.values()) else Verdict.UNKNOWN


def _taken(history: History) -> list[tuple[Any, Operation]]:
    found = [(op.output, op) for op in oks(history, "dequeue") if op.output is not None]
    return found + [(value, op) for op in oks(history, "drain") for value in op.output]


def queue_oracle(history: History) -> Verdict:
    """Match every dequeue with an enqueue of its own that may have happened before it ended, trying all matchings."""
    enqueues = [op for op in by_f(history, "enqueue") if op.type != "fail"]
    taken = _taken(history)
    if not taken:
        return Verdict.UNKNOWN

    def can_match(place: int, free: list[Operation]) -> bool:
        if place == len(taken):
            return True
        value, taker = taken[place]
        return any(
            can_match(place + 1, free[:number] + free[number + 1 :])
            for number, enqueue in enumerate(free)
            if enqueue.invoke.value == value and enqueue.invoke.index < end_of(taker)
        )

    return Verdict.VALID if can_match(0, enqueues) else Verdict.INVALID


def total_queue_oracle(history: History) -> Verdict:
    """Give every acknowledged enqueue a dequeue of its own.

    Crashed ones may take anything, a crashed drain all; but one that names an element takes that or nothing.
    """
    possible = {op.invoke.value for op in by_f(history, "enqueue") if op.type != "fail"}
    taken = [value for value, _ in _taken(history)]
    if any(value not in possible for value in taken):
        return Verdict.INVALID
    infos = [op for op in by_f(history, "dequeue") if op.type == "info"]
    named = [op.output for op in infos if op.output is not None]
    crashed = [op for op in infos if op.output is None]
    drains = [op for op in by_f(history, "drain") if op.type == "info"]

    def can_assign(left: list[Any], free: list[Any], jokers: int) -> bool:
        if not left:
            return True
        value, rest = left[0], left[1:]
        if value in free:
            fewer = list(free)
            fewer.remove(value)
            if can_assign(rest, fewer, jokers):
                return True
        return jokers > 0 and can_assign(rest, free, jokers - 1)

    sure = [op.invoke.value for op in oks(history, "enqueue")]
    if not sure and not taken:
        return Verdict.UNKNOWN
    if can_assign(sure, taken + named, 0):
        return Verdict.VALID
    jokers = len(sure) if drains else len(crashed)
    return Verdict.UNKNOWN if can_assign(sure, taken + named, jokers) else Verdict.INVALID


def fifo_oracle(history: History) -> Verdict:
    """Try every order of the operations; a crashed dequeue takes what it names or nothing, one of a failed enqueue
    is no operation of the queue.
    """
    possible = {op.invoke.value for op in by_f(history, "enqueue") if op.type != "fail"}
    operations = [op for op in history.operations if op.type != "fail"]
    operations = [op for op in operations if op.f == "enqueue" or op.output is None or op.output in possible]
    came_out = any(op.output is not None for op in oks(history, "dequeue"))

    def can_go_on(left: list[Operation], queue: tuple[Any, ...]) -> bool:
        if all(op.type == "info" for op in left):
            return True
        first_end = min(end_of(op) for op in left if op.type == "ok")
        for place, op in enumerate(left):
            if op.invoke.index > first_end:
                continue
            after = _step(op, queue)
            if after is not None and can_go_on(left[:place] + left[place + 1 :], after):
                return True
        return False

    if not can_go_on(operations, ()):
        return Verdict.INVALID
    return Verdict.VALID if came_out else Verdict.UNKNOWN


def _step(op: Operation, queue: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if op.f == "enqueue":
        return (*queue, op.invoke.value)
    if op.output is None:
        return None if queue or op.type == "info" else queue
    return queue[1:] if queue and queue[0] == op.output else None


def counter_oracle(history: History) -> Verdict:
    """A read's value must be within the sums of some choice of what had happened at some moment of it."""
    reads = oks(history, "read")
    if not reads:
        return Verdict.UNKNOWN
    adds = by_f(history, "add")
    for read in reads:
        sums = [total for gap in range(read.invoke.index, end_of(read)) for total in _sums(adds, gap + 0.5, history)]
        if not min(sums) <= read.output <= max(sums):
            return Verdict.INVALID
    return Verdict.VALID


def _sums(adds: list[Operation], look: float, history: History) -> Iterator[int]:
    """Every count at a moment; an add in the same gap between records may have come before or after it."""
    choices = []
    for add in adds:
        times = [moment + side for moment in moments(add, history) for side in (-0.1, 0.1)]
        choices.append({add.invoke.value if time < look else 0 for time in times})
    return (sum(choice) for choice in product(*choices))


def unique_ids_oracle(history: History) -> Verdict:
    ids = [op.output for op in oks(history, "generate")]
    if not ids:
        return Verdict.UNKNOWN
    return Verdict.INVALID if any(a == b for place, a in enumerate(ids) for b in ids[:place]) else Verdict.VALID


def bank_oracle(history: History, accounts: list[str], total: int) -> Verdict:
    """A right read is one of the ways to split the total among the accounts."""
    reads = [op for op in oks(history, "read") if op.output is not None]
    if not reads:
        return Verdict.UNKNOWN
    splits = [
        dict(zip(accounts, amounts, strict=True))
        for amounts in product(range(total + 1), repeat=len(accounts))
        if sum(amounts) == total
    ]
    return Verdict.VALID if all(read.output in splits for read in reads) else Verdict.INVALID


def long_fork_oracle(history: History) -> Verdict:
    """VALID when, for each group of keys, some order of the writes has every read as one of its prefixes."""
    txns = by_f(history, "txn")
    writes = {}
    for operation in txns:
        for kind, key, value in operation.invoke.value:
            if kind == "w" and operation.type != "fail":
                if key in writes:
                    return Verdict.UNKNOWN
                writes[key] = (value, operation)
    groups: dict[frozenset[Any], list[Operation]] = {}
    for operation in txns:
        if operation.type == "ok" and all(kind == "r" for kind, _, _ in operation.output):
            groups.setdefault(frozenset(key for _, key, _ in operation.output), []).append(operation)
    comparable = False
    for keys, reads in groups.items():
        comparable = comparable or (len(reads) > 1 and len(keys) > 1)
        if not any(all(_is_prefix(read, order, writes) for read in reads) for order in permutations(sorted(keys))):
            return Verdict.INVALID
    return Verdict.VALID if comparable else Verdict.UNKNOWN


def _is_prefix(read: Operation, order: tuple[Any, ...], writes: dict[Any, tuple[Any, Operation]]) -> bool:
    seen = {key: value for _, key, value in read.output if value is not None}
    for key, value in seen.items():
        if key not in writes or writes[key][0] != value or writes[key][1].invoke.index > end_of(read):
            return False
    return any(set(order[:length]) == set(seen) for length in range(len(order) + 1))


def causal_oracle(history: History, initial: Any) -> Verdict:
    """Try every place of every crashed write among the operations of the site."""
    operations = [op for op in by_f(history, "read", "read-init", "write") if op.type != "fail"]
    sure = [op for op in operations if op.type == "ok"]
    for before in sure:
        if any(before.invoke.index < op.invoke.index < end_of(before) for op in operations):
            return Verdict.UNKNOWN
    crashed = [op for op in operations if op.type != "ok" and op.f == "write"]
    for times in product(*(moments(op, history) for op in crashed)):
        steps = [(float(end_of(op)), 1, op) for op in sure]
        steps += [(time, 0, op) for time, op in zip(times, crashed, strict=True) if time != NEVER]
        for tie in permutations(range(len(crashed))):  # two crashed writes may share a moment, in either order
            ranks = {id(op): rank for rank, op in zip(tie, crashed, strict=True)}
            if _runs(sorted(steps, key=lambda step: (step[0], step[1], ranks.get(id(step[2]), 0))), initial):
                return Verdict.VALID if any(op.f != "write" for op in sure) else Verdict.UNKNOWN
    return Verdict.INVALID


def _runs(steps: list[tuple[float, int, Operation]], initial: Any) -> bool:
    value = initial
    for _, _, operation in steps:
        if operation.f == "write":
            value = operation.invoke.value
        elif (initial if operation.output is None else operation.output) != value:
            return False
    return True


def causal_reverse_oracle(history: History) -> Verdict:
    """No read shows w but not v where v was acknowledged before every write of w that may have happened began."""
    reads = oks(history, "read")
    if not reads:
        return Verdict.UNKNOWN
    writes = by_f(history, "write")
    for read in reads:
        for shown in read.output:
            begins = [op.invoke.index for op in writes if op.invoke.value == shown and op.type != "fail"]
            for earlier in oks(history, "write"):
                if begins and end_of(earlier) < min(begins) and earlier.invoke.value not in read.output:
                    return Verdict.INVALID
    return Verdict.VALID


def g2_oracle(history: History) -> Verdict:
    inserts = by_f(history, "insert")
    answered = [op for op in inserts if op.type != "info"]
    pairs = [pair for pair in combinations(answered, 2) if pair[0].invoke.value[0] == pair[1].invoke.value[0]]
    if not pairs:
        return Verdict.UNKNOWN
    return Verdict.INVALID if any(a.type == b.type == "ok" for a, b in pairs) else Verdict.VALID
