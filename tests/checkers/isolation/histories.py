"""Random histories of a few transactions: from a store that is serial, or not quite."""

from __future__ import annotations

import random
from typing import Any

from splitvote.harness.history import History
from splitvote.harness.op import Op
from tests.checkers.isolation.brute import Txn

FLAWS = (
    "none",
    "stale snapshot",
    "snapshot isolation",
    "read committed",
    "read anything",
    "failed writes stay",
    "lost write",
    "out of order",
    "out of time",
)


def random_txns(dice: random.Random, dialect: str) -> list[Txn]:
    """Two to five transactions on one to three keys, executed by a store with one flaw or none.

    A fifth of them crash or fail.  Values are unique per key.
    """
    count = dice.choice((2, 3, 4, 4, 5, 5, 5, 5))
    keys = dice.choice((1, 2, 2, 3))
    flaw = dice.choice(FLAWS)
    processes = dice.randint(1, 3)
    numbers = dict.fromkeys(range(keys), 0)
    calls: list[tuple[float, float]] = []
    free: dict[int, float] = {}
    who = []
    moment = 0.0
    for _ in range(count):
        process = dice.randrange(processes)
        begin = max(free.get(process, 0.0), moment - dice.random() * 3) + dice.random() * 0.1
        effect = begin + dice.random()
        end = effect + dice.random() * dice.choice((0.2, 3))
        moment = max(moment, effect) + dice.random() * 0.5
        free[process] = end
        who.append(process)
        calls.append((begin, end))
    places = {at: place for place, at in enumerate(sorted(at for call in calls for at in call))}
    store = _Store(dice, dialect, flaw)
    txns = []
    crashed: set[int] = set()
    turns = sorted(range(count), key=lambda each: sum(calls[each]) / 2)
    if flaw == "out of time":
        dice.shuffle(turns)
    for number in turns:
        asked = _asked(dice, dialect, keys, numbers)
        outcome = dice.choices(("ok", "info", "fail"), (8, 1, 1))[0]
        answer = store.execute(asked, outcome)
        if outcome == "info":
            crashed.add(who[number])
        txns.append(Txn(who[number], outcome, answer, places[calls[number][0]], places[calls[number][1]]))
    return sorted(txns, key=lambda txn: txn.invoke)


def _asked(dice: random.Random, dialect: str, keys: int, numbers: dict[int, int]) -> list[tuple[str, int, Any]]:
    asked: list[tuple[str, int, Any]] = []
    for _ in range(dice.choice((1, 2, 2, 3, 3, 4))):
        key = dice.randrange(keys)
        if dice.random() < 0.5:
            asked.append(("r", key, None))
        else:
            numbers[key] += 1
            asked.append((dialect, key, numbers[key]))
    return asked


class _Store:
    """A store that executes transactions in the order they come, with its flaw."""

    def __init__(self, dice: random.Random, dialect: str, flaw: str) -> None:
        self._dice, self._dialect, self._flaw = dice, dialect, flaw
        self._past: list[dict[int, Any]] = [{}]

    def execute(self, asked: list[tuple[str, int, Any]], outcome: str) -> tuple[tuple[str, int, Any], ...]:
        """What a transaction asked, with what its reads saw."""
        dice, flaw = self._dice, self._flaw
        latest = self._past[-1]
        old = dice.choice(self._past[-3:]) if flaw in ("stale snapshot", "snapshot isolation") else latest
        view = dict(old)
        answer: list[tuple[str, int, Any]] = []
        touched = []
        for f, key, value in asked:
            if flaw == "read committed" and dice.random() < 0.4:
                view = dict(dice.choice(self._past[-2:]))
            if f == "r":
                seen = view.get(key)
                if flaw == "read anything" and dice.random() < 0.3:
                    seen = dice.choice(self._past).get(key)
                answer.append((f, key, self._shown(seen)))
                continue
            touched.append((key, value))
            view[key] = self._changed(view.get(key), value)
            answer.append((f, key, value))
        happens = outcome == "ok" or (outcome == "info" and dice.random() < 0.5)
        if happens or (outcome == "fail" and flaw == "failed writes stay" and dice.random() < 0.7):
            clash = any(latest.get(key) != old.get(key) for key, _ in touched)
            if not (flaw == "lost write" and dice.random() < 0.3) and not (flaw == "snapshot isolation" and clash):
                self._commit(latest, touched)
        return tuple(answer)

    def _commit(self, latest: dict[int, Any], touched: list[tuple[int, Any]]) -> None:
        new = dict(latest)
        for key, value in touched:
            new[key] = self._changed(new.get(key), value)
            if self._flaw == "out of order" and self._dialect == "append" and self._dice.random() < 0.3:
                mixed = list(new[key])
                self._dice.shuffle(mixed)
                new[key] = tuple(mixed)
            if self._flaw == "read committed" and self._dice.random() < 0.3:
                self._past.append(dict(new))
        self._past.append(new)

    def _changed(self, held: Any, value: Any) -> Any:
        return (*(held or ()), value) if self._dialect == "append" else value

    def _shown(self, held: Any) -> Any:
        if self._dialect != "append":
            return held
        return list(held) if held else self._dice.choice((None, []))


def history_of(txns: list[Txn]) -> History:
    """The records of these transactions; a crashed client's later transactions are those of a new process."""
    events: list[tuple[int, bool, Txn]] = []
    for txn in txns:
        events += [(txn.invoke, True, txn), (txn.complete, False, txn)]
    records = []
    for place, (_, is_call, txn) in enumerate(sorted(events, key=lambda event: event[0])):
        asked = [[f, key, None if f == "r" else value] for f, key, value in txn.micro_ops]
        answer = [[f, key, value] for f, key, value in txn.micro_ops]
        kind: Any = "invoke" if is_call else txn.type
        value = answer if kind == "ok" else asked
        records.append(Op(place, place * 1000, txn.process, kind, "txn", None, value))
    return History(records)


Ask = tuple[str, Any, Any]


def at_once(*txns: list[Ask]) -> History:
    """Transactions that all overlap, each of a process of its own, all ok."""
    count = len(txns)
    return history_of([Txn(place, "ok", tuple(txn), place, count + place) for place, txn in enumerate(txns)])


def in_turn(*txns: list[Ask]) -> History:
    """Transactions one after the other, each of a process of its own, all ok."""
    return history_of([Txn(place, "ok", tuple(txn), 2 * place, 2 * place + 1) for place, txn in enumerate(txns)])


def by_one_process(*txns: list[Ask]) -> History:
    """Transactions one after the other, of one process, all ok."""
    return history_of([Txn(0, "ok", tuple(txn), 2 * place, 2 * place + 1) for place, txn in enumerate(txns)])


def ending(outcomes: str, *txns: list[Ask]) -> History:
    """Overlapping transactions of a process each, which end as told: "ok fail info"."""
    count = len(txns)
    ends = outcomes.split()
    return history_of([Txn(place, ends[place], tuple(txn), place, count + place) for place, txn in enumerate(txns)])
