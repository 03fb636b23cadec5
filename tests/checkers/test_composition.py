"""Composition: the gravest verdict wins, keys are judged one by one, and crashes stay where they happen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from splitvote.checkers.composition import Composed, Independent, by_key, for_key
from splitvote.checkers.counter import CounterChecker
from splitvote.checkers.sets import SetChecker
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict
from tests.checkers.library_histories import history, judge

OP = Op(index=0, time_ns=0, process=0, f="read")


@dataclass
class Says:
    """A checker that always says the same."""

    name: str
    verdict: Verdict

    def check(self, recording: Recording, budget: Budget) -> Result:
        if self.verdict is Verdict.VALID:
            return Result(self.name, self.verdict, stats={"seen": len(recording.history)})
        anomalies = (Anomaly(self.name, f"{self.name} is wrong.", (OP,)),) if self.verdict is Verdict.INVALID else ()
        return Result(self.name, self.verdict, f"{self.name} says so", anomalies)


class Crashes:
    name = "crashes"

    def check(self, recording: Recording, budget: Budget) -> Result:
        raise ZeroDivisionError("1/0")


@pytest.mark.parametrize(
    ("parts", "worst"),
    [
        ([Verdict.VALID, Verdict.VALID], Verdict.VALID),
        ([Verdict.VALID, Verdict.SLO_MISSED], Verdict.SLO_MISSED),
        ([Verdict.SLO_MISSED, Verdict.UNKNOWN, Verdict.VALID], Verdict.UNKNOWN),
        ([Verdict.UNKNOWN, Verdict.INVALID, Verdict.SLO_MISSED], Verdict.INVALID),
        ([], Verdict.VALID),
    ],
)
def test_the_gravest_verdict_wins(parts: list[Verdict], worst: Verdict) -> None:
    checkers = [Says(f"c{number}", verdict) for number, verdict in enumerate(parts)]
    result = Composed("all", checkers).check(Recording(History([OP])), Budget())
    assert result.verdict is worst
    assert result.evidence["parts"].keys() == {checker.name for checker in checkers}
    assert len(result.anomalies) == parts.count(Verdict.INVALID)
    gravest = [checker.name for checker in checkers if checker.verdict is worst]
    assert result.reason == (None if worst is Verdict.VALID else f"{gravest[0]}: {gravest[0]} says so")


def test_a_crash_is_unknown_and_leaves_the_others_alone() -> None:
    result = Composed("all", [Crashes(), Says("fine", Verdict.VALID)]).check(Recording(History([OP])), Budget())
    assert result.verdict is Verdict.UNKNOWN
    assert "ZeroDivisionError: 1/0" in str(result.reason)
    assert result.stats["fine"]["seen"] == 1


def test_a_spent_budget_is_unknown() -> None:
    text = "0 invoke add 1\n0 ok add\n0 invoke read\n0 ok read [1]"
    recorded = Recording(history(text))
    result = Composed("all", [SetChecker(), CounterChecker()]).check(recorded, Budget(max_steps=5))
    assert result.evidence["parts"]["set"]["verdict"] == "VALID"
    assert result.evidence["parts"]["counter"]["verdict"] == "UNKNOWN"


KEYED = """
0 invoke add 1 "a"
1 invoke add 1 "b"
0 ok add
1 ok add
0 invoke read null "a"
1 invoke read null "b"
0 ok read [1]
1 ok read {}
"""


def test_keys_are_judged_one_by_one() -> None:
    checker = Independent(SetChecker())
    assert checker.name == "set by key"
    assert judge(checker, KEYED.format("[1]")).verdict is Verdict.VALID
    result = judge(checker, KEYED.format("[]"))
    assert result.verdict is Verdict.INVALID
    assert result.reason == "1 key of 2 INVALID ('b'); b: 1 acknowledged element lost: 1"
    assert [anomaly.key for anomaly in result.anomalies] == ["b"]
    assert result.evidence["keys"].keys() == {"b"}
    assert (result.stats["VALID"], result.stats["INVALID"]) == (1, 1)


def test_without_keys_it_is_unknown() -> None:
    result = judge(Independent(SetChecker()), "0 invoke read\n0 ok read []")
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "no operation has an independent key")


def test_projections_keep_indices_and_what_has_no_key() -> None:
    """The nemesis is everyone's; a completion or event without a key belongs to what its process has open."""
    nemesis = Op(index=2, time_ns=2, process=NEMESIS, type="info", f="kill")
    ops = [
        Op(index=0, time_ns=0, process=0, f="watch", key=[1, 2]),
        Op(index=1, time_ns=1, process=1, f="read", key="k"),
        nemesis,
        Op(index=3, time_ns=3, process=0, type="event", f="watch", of=0),
        Op(index=4, time_ns=4, process=1, type="ok", f="read"),
        Op(index=5, time_ns=5, process=2, f="read", key="late"),
        Op(index=6, time_ns=6, process=0, type="info", f="watch", key=(1, 2)),
    ]
    parts = by_key(History(ops))
    assert {key: [op.index for op in part] for key, part in parts.items()} == {
        (1, 2): [0, 2, 3, 6],
        "k": [1, 2, 4],
        "late": [2, 5],
    }
    assert list(for_key(History(ops), [1, 2])) == list(parts[1, 2])
    assert list(for_key(History(ops), "nobody's")) == [nemesis]
    assert [operation.type for operation in parts["k"].operations] == ["ok"]
