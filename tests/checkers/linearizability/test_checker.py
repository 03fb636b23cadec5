"""The checker of a run: keys, what failures and missing answers mean, evidence, budgets, and its words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from splitvote.checkers.linearizability import (
    CheckResult,
    LinearizabilityChecker,
    Model,
    NondeterministicModel,
    Operation,
    check_operations,
    models,
)
from splitvote.checkers.linearizability.records import frozen, operations_of
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict


class Script:
    """Writes a history: each line is one record."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.open: dict[int, tuple[str, Any, Any]] = {}

    def call(self, process: int, f: str, value: Any = None, key: Any = None) -> Script:
        self.open[process] = (f, value, key)
        return self._add(process, "invoke", f, value, key)

    def ok(self, process: int, value: Any = None, **more: Any) -> Script:
        f, asked, key = self.open[process]
        return self._add(process, "ok", f, asked if value is None and f != "read" else value, key, **more)

    def fail(self, process: int, **more: Any) -> Script:
        f, asked, key = self.open[process]
        return self._add(process, "fail", f, asked, key, **more)

    def info(self, process: int, **more: Any) -> Script:
        f, asked, key = self.open[process]
        return self._add(process, "info", f, asked, key, **more)

    def _add(self, process: int, type: Any, f: str, value: Any, key: Any, **more: Any) -> Script:
        index = len(self.ops)
        self.ops.append(
            Op(index=index, time_ns=index * 1000, process=process, type=type, f=f, value=value, key=key, **more)
        )
        return self

    def judge(self, model: str | Model = "cas-register", budget: Budget | None = None, **options: Any) -> Result:
        checker = LinearizabilityChecker(model, **options)
        return checker.check(Recording(History(self.ops)), budget or Budget())


def stale_read(key: Any = None) -> Script:
    script = Script()
    script.call(0, "write", 1, key).ok(0).call(1, "write", 2, key).ok(1)
    return script.call(2, "read", None, key).ok(2, 1)


def test_a_good_history_is_valid_and_says_by_which_engine() -> None:
    result = Script().call(0, "write", 1).ok(0).call(1, "read").ok(1, 1).judge()
    assert result.verdict is Verdict.VALID
    assert result.stats["operations"] == 2
    assert sum(result.stats["engines"].values()) == 1


def test_an_empty_history_is_valid() -> None:
    assert Script().judge().verdict is Verdict.VALID


def test_a_stale_read_is_invalid_with_its_few_records() -> None:
    result = stale_read("r3").judge()
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    assert (anomaly.name, anomaly.key) == ("nonlinearizable", "r3")
    assert [op.index for op in anomaly.ops] == [0, 1, 2, 3, 4, 5]
    assert "process 2 read 1" in anomaly.story
    details = anomaly.details
    assert details["longest_prefix"] == 2
    assert details["state"] == "2"
    assert details["cannot_be_placed"] == {"process": 2, "what": "read 1", "invoke": 4, "completion": 5}


def test_the_end_of_the_longest_order_says_what_state_each_operation_leaves() -> None:
    """The last ten, whatever came before; a read leaves the state as it was."""
    script = Script()
    for value in range(20):
        script.call(0, "write", value).ok(0).call(1, "read").ok(1, value)
    details = script.call(2, "read").ok(2, 3).judge().anomalies[0].details
    assert details["longest_prefix"] == 40
    assert [line["state"] for line in details["prefix_tail"]] == [str(value) for value in range(15, 20) for _ in "wr"]
    assert details["prefix_tail"][-1]["state"] == details["state"]


def test_the_core_leaves_out_what_does_not_matter() -> None:
    """A hundred good operations around the three that are bad."""
    script = Script()
    for value in range(100, 150):
        script.call(3, "write", value).ok(3).call(4, "read").ok(4, value)
    script.call(0, "write", 1).ok(0).call(1, "write", 2).ok(1).call(2, "read").ok(2, 1)
    for value in range(200, 250):
        script.call(3, "write", value).ok(3)
    (anomaly,) = script.judge().anomalies
    assert [line["what"] for line in anomaly.details["core"]] == ["wrote 1", "wrote 2", "read 1"]
    assert anomaly.details["longest_prefix"] == 102


def test_a_lost_write_is_explained_by_two_operations() -> None:
    (anomaly,) = Script().call(0, "write", 1).ok(0).call(1, "read").ok(1, None).judge().anomalies
    assert [line["what"] for line in anomaly.details["core"]] == ["wrote 1", "read that it was absent"]


def test_a_value_from_nowhere_is_called_that() -> None:
    (anomaly,) = Script().call(0, "write", 1).ok(0).call(1, "read").ok(1, 9).judge().anomalies
    assert "process 1 read 9, but nothing that can have taken effect ever wrote that value" in anomaly.story


def test_a_value_read_before_anyone_asked_for_it_is_called_that() -> None:
    (anomaly,) = Script().call(1, "read").ok(1, 9).call(0, "write", 9).ok(0).judge().anomalies
    assert "process 0 asked for that value only later" in anomaly.story


def test_concurrent_core_operations_are_told_as_such() -> None:
    script = Script().call(0, "write", 1).call(1, "write", 2).ok(0).ok(1)
    script.call(2, "read").ok(2, 1).call(2, "read").ok(2, 2).call(2, "read").ok(2, 1)
    (anomaly,) = script.judge().anomalies
    assert "meanwhile" in anomaly.story or "after (1)" in anomaly.story


def test_an_answer_that_never_came_leaves_the_write_open() -> None:
    script = Script().call(0, "write", 1).ok(0).call(1, "write", 2).info(1).call(2, "read")
    assert script.ok(2, 2).judge().verdict is Verdict.VALID
    still_open = Script().call(1, "write", 2).call(2, "read").ok(2, 2).call(2, "read").ok(2, 2)
    assert still_open.judge().verdict is Verdict.VALID


def test_a_failed_write_did_not_happen() -> None:
    script = Script().call(0, "write", 1).fail(0, error="refused").call(1, "read")
    assert script.ok(1, 1).judge().verdict is Verdict.INVALID


def test_reads_without_an_answer_say_nothing() -> None:
    script = Script().call(0, "read").info(0).call(1, "read").fail(1).call(2, "read").ok(2, None)
    assert script.judge().verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("more", "observed"),
    [
        ({"extra": {"observed": True}}, True),
        ({"error": "cas: value differs"}, True),
        ({"extra": {"observed": False}, "error": "cas: value differs"}, False),
        ({"error": "too many requests"}, False),
        ({}, False),
    ],
)
def test_only_an_observed_failure_of_a_cas_tells_of_the_state(more: dict[str, Any], observed: bool) -> None:
    script = Script().call(0, "write", 1).ok(0).call(1, "cas", [1, 2]).fail(1, **more)
    assert script.judge().verdict is (Verdict.INVALID if observed else Verdict.VALID)
    assert script.judge(drop_failed_cas=True).verdict is Verdict.VALID


def test_keys_are_independent_and_each_violation_is_an_anomaly() -> None:
    script = stale_read("a")
    script.call(0, "write", 5, "b").ok(0).call(1, "read", None, "b").ok(1, 5)
    script.call(0, "write", 6, ["c", 1]).ok(0).call(1, "read", None, ["c", 1]).ok(1, None)
    result = script.judge()
    assert [anomaly.key for anomaly in result.anomalies] == ["a", ("c", 1)]
    assert result.stats["keys"] == 3
    assert "2 of 3 keys" in str(result.reason)


def test_a_result_is_json() -> None:
    result = stale_read(["a", 1]).judge()
    assert msgspec.json.decode(msgspec.json.encode(result))["verdict"] == "INVALID"


def wide(values: int = 12) -> Script:
    """Many writes of few values at once, then reads in an order that takes some finding out."""
    script = Script()
    for process in range(values):
        script.call(process, "write", process % 4)
    for process in range(values):
        script.ok(process)
    for place in range(8):
        script.call(50, "read").ok(50, place % 3)
    return script


def test_a_spent_budget_is_unknown_with_the_longest_prefix() -> None:
    result = wide().judge(budget=Budget(max_steps=200))
    assert result.verdict is Verdict.UNKNOWN
    assert "200" in str(result.reason)
    (undecided,) = result.evidence["undecided"]
    assert undecided["longest_prefix"] >= 1
    assert undecided["state"]


def test_a_violation_outweighs_what_was_not_decided() -> None:
    script = stale_read("a")
    for op in wide().ops:
        script.ops.append(msgspec.structs.replace(op, index=len(script.ops), key="b", process=op.process + 100))
    result = script.judge(budget=Budget(max_steps=300))
    assert result.verdict is Verdict.INVALID
    assert [item["key"] for item in result.evidence["undecided"]] == ["b"]


def test_a_violation_found_in_the_last_moment_is_explained_all_the_same() -> None:
    """The core is made small even if the budget's time is up by then."""
    times = iter([0.0, *[0.5] * 3])
    budget = Budget(time_s=1.0, clock=lambda: next(times, 2.0))
    script = Script()
    for value in range(30):
        script.call(3, "write", value + 10).ok(3)
    script.call(0, "write", 1).ok(0).call(2, "read").ok(2, 10)
    (anomaly,) = script.judge(budget=budget).anomalies
    assert anomaly.details["core_size"] <= 4


def test_a_users_own_model_works() -> None:
    def step(state: int, asked: tuple[str, Any], answer: Any) -> tuple[bool, int]:
        return (answer == state, state) if asked[0] == "read" else (True, max(state, asked[1]))

    highest = Model(name="highest", init=int, step=step)
    script = Script().call(0, "write", 5).ok(0).call(1, "write", 3).ok(1).call(2, "read")
    assert script.ok(2, 5).judge(highest).verdict is Verdict.VALID
    script.call(2, "read").ok(2, 3)
    (anomaly,) = script.judge(highest).anomalies
    assert anomaly.details["model"] == "highest"


@pytest.mark.parametrize("name", ["mutex", "fifo-queue", "unordered-queue", "set", "counter", "versioned-register"])
def test_models_by_name_judge_recorded_operations(name: str) -> None:
    """The values of records are JSON: lists stand for tuples."""
    script = Script()
    good, bad = {
        "mutex": ([("acquire", "a"), ("release", "a")], ("release", "a")),
        "fifo-queue": ([("enqueue", [1])], ("enqueue", [2])),
        "unordered-queue": ([("enqueue", [1])], ("enqueue", [2])),
        "set": ([("add", {"n": 1})], ("read", [])),
        "counter": ([("add", 1)], ("read", 0)),
        "versioned-register": ([("write", [1])], ("read", [2, [1]])),
    }[name]
    for f, value in good:
        script.call(0, f, value).ok(0, None)
    assert script.judge(name).verdict is Verdict.VALID
    if "queue" in name:
        script.call(0, "dequeue")._add(0, "ok", "dequeue", [9], None)
    else:
        f, value = bad
        script.call(0, f, None if f == "read" else value).ok(0, value)
    assert script.judge(name).verdict is Verdict.INVALID


def test_values_become_hashable() -> None:
    assert frozen({"b": [1, {"a": None}], "a": 2}) == (("a", 2), ("b", (1, (("a", None),))))


def test_times_are_places_in_the_history() -> None:
    script = Script().call(0, "write", 1).call(1, "read").ok(1, None).ok(0)
    operations, sources = operations_of(History(script.ops).operations)
    assert [(operation.call, operation.return_) for operation in operations] == [(0, 3), (1, 2)]
    assert [source.f for source in sources] == ["write", "read"]


def test_a_nondeterministic_model_is_a_set_of_states() -> None:
    """A coin that shows what it shows once it was looked at."""
    coin = NondeterministicModel(
        name="coin",
        init=lambda: ["heads", "tails"],
        step=lambda state, asked, answer: ["heads", "tails"] if asked == "toss" else [state] if answer == state else [],
        read_only=lambda asked, _: asked == "look",
    )
    looks = [Operation(0, "look", 2 * place, side, 2 * place + 1) for place, side in enumerate(["heads", "heads"])]
    assert check_operations(coin, looks) is CheckResult.OK
    flipped = [*looks, Operation(0, "look", 6, "tails", 7)]
    assert check_operations(coin, flipped) is CheckResult.ILLEGAL
    assert check_operations(coin, [*flipped, Operation(1, "toss", 5, None, 8)]) is CheckResult.OK
    model = coin.to_model()
    assert model.describe_state(model.init()) == "one of {'heads', 'tails'}"
    assert models.unordered_queue().to_model().name == "unordered-queue"
