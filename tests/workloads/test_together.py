"""Several workloads at once: shares, labels, projections."""

from __future__ import annotations

from typing import Any

import pytest

from splitvote.checkers.projection import ProjectedChecker, projected
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import clients, limit
from splitvote.harness.generator.simulation import quick
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict
from splitvote.workloads.together import together
from splitvote.workloads.workload import Workload, WorkloadOptions

OPTIONS = WorkloadOptions(concurrency=5, rate=100.0)


class CountingChecker:
    name = "counting"

    def check(self, recording: Recording, budget: Budget) -> Result:
        return Result(self.name, Verdict.VALID, stats={"operations": len(recording.history.operations)})


def make(name: str, options: WorkloadOptions) -> Workload:
    if name == "missing":
        raise KeyError(name)
    return Workload(
        name=name,
        generator=clients(lambda: {"f": f"{name}-op", "value": options.concurrency}),  # type: ignore[arg-type]
        final=lambda keys: clients([Op(f="read", key=key) for key in keys]) if keys else None,
        checkers=(CountingChecker(),),
        least_ok={"op": 1},
        options=(f"{name}_option",),
    )


def test_threads_and_rate_are_shared_and_every_operation_says_whose_it_is() -> None:
    both = together("a+b", OPTIONS, make)
    assert both.threads == (3, 2)
    history = quick(limit(40, both.generator), concurrency=5)
    by_workload: dict[str | None, set[int]] = {}
    for op in history:
        by_workload.setdefault(op.workload, set()).add(op.process % 5)
        assert op.f == f"{op.workload}-op"
    assert by_workload == {"a": {0, 1, 2}, "b": {3, 4}}


def test_one_workload_alone_carries_no_label() -> None:
    alone = together("a", OPTIONS, make)
    assert {op.workload for op in quick(limit(5, alone.generator), concurrency=5)} == {None}
    assert alone.least_ok == {"op": 1}
    assert [checker.name for checker in alone.checkers] == ["counting"]


def test_each_workload_ends_with_its_own_keys() -> None:
    ending = together("a+b", OPTIONS, make).final({"a": [1], "b": [2, 3]})
    assert ending is not None
    reads = [(op.workload, op.key) for op in quick(ending, concurrency=5) if op.type == "invoke"]
    assert sorted(reads) == [("a", 1), ("b", 2), ("b", 3)]
    assert together("a+b", OPTIONS, make).final({}) is None


def test_a_checker_sees_its_own_workload_and_the_faults_only() -> None:
    records = [
        Op(0, 0, 0, "invoke", "x", workload="a"),
        Op(1, 1, 1, "invoke", "x", workload="b"),
        Op(2, 2, NEMESIS, "info", "start-kill"),
        Op(3, 3, 1, "ok", "x", workload="b"),
        Op(4, 4, 0, "ok", "x", workload="a"),
    ]
    seen = projected(Recording(History(records)), "b")
    assert [op.index for op in seen.history] == [1, 2, 3]
    result = ProjectedChecker("b", CountingChecker()).check(Recording(History(records)), Budget())
    assert (result.checker, result.stats["operations"]) == ("b/counting", 1)


@pytest.mark.parametrize(
    ("names", "changes", "words"),
    [
        ("a+a", {}, "twice"),
        ("a+b", {"concurrency": 1}, "raise --concurrency to 2"),
        ("a+b", {"extra": {"c_option": 1}}, "a_option, b_option"),
    ],
)
def test_what_cannot_be_is_refused(names: str, changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"concurrency": 5, "rate": 1.0} | changes
    with pytest.raises(ConfigError, match=words):
        together(names, WorkloadOptions(**given), make)


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="missing"):
        together("a+missing", OPTIONS, make)
