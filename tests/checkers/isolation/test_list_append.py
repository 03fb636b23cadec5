"""list-append: every anomaly by its smallest example, and the histories beside it that are fine."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.checkers.isolation import ListAppendChecker
from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.formats import read_any
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, BudgetExceeded, Result, Verdict, run_checker
from tests.checkers.isolation.brute import Txn
from tests.checkers.isolation.histories import at_once, by_one_process, ending, history_of, in_turn


def judge(history: History, model: str = "strict-serializable") -> Result:
    return ListAppendChecker(model).check(Recording(history), Budget())


def types(history: History, model: str = "strict-serializable") -> list[str]:
    """The anomalies found; none exactly when the history is valid."""
    result = judge(history, model)
    assert (result.verdict == Verdict.INVALID) == bool(result.anomalies)
    assert result.evidence["anomaly_types"] == sorted({anomaly.name for anomaly in result.anomalies})
    return list(result.evidence["anomaly_types"])


def append(key: object, element: object) -> tuple[str, object, object]:
    return "append", key, element


def read(key: object, *elements: object) -> tuple[str, object, object]:
    return "r", key, list(elements)


def test_what_is_strictly_serializable_is_valid() -> None:
    """Appends that are read in order, a failed one nobody saw, a crashed one somebody saw: nothing is ruled out."""
    result = judge(
        history_of(
            [
                Txn(0, "ok", (append("x", 1), append("y", 1)), 0, 1),
                Txn(1, "fail", (append("x", 2),), 2, 3),
                Txn(2, "info", (append("x", 3),), 4, 5),
                Txn(0, "ok", (read("x", 1, 3), append("x", 4), read("x", 1, 3, 4)), 6, 7),
                Txn(1, "ok", (read("x", 1, 3, 4), read("y", 1), read("z")), 8, 9),
            ]
        )
    )
    assert result.verdict == Verdict.VALID
    assert result.evidence["not"] == result.evidence["also_not"] == []
    assert result.evidence["strongest_left"] == ["strong-serializable"]
    assert result.stats["ok"] == 3
    assert result.stats["unknown"] == result.stats["failed"] == 1


def test_g0() -> None:
    """Two transactions whose appends interleave in two keys."""
    history = at_once(
        [append("x", 1), append("y", 1)],
        [append("x", 2), append("y", 2)],
        [read("x", 1, 2), read("y", 2, 1)],
    )
    result = judge(history, "read-uncommitted")
    assert [anomaly.name for anomaly in result.anomalies] == ["G0"]
    assert result.evidence["not"] == ["read-uncommitted"]
    assert result.evidence["strongest_left"] == []


def test_g1a() -> None:
    """A read of what a failed transaction appended."""
    history = ending("fail ok", [append("x", 1)], [read("x", 1)])
    assert types(history) == ["G1a"]
    assert types(history, "read-uncommitted") == []
    story = judge(history).anomalies[0].story
    assert "which failed" in story
    assert "process 0" in story


def test_g1b() -> None:
    """A read of a state in the middle of another transaction; its own such reads are fine."""
    history = at_once([append("x", 1), append("x", 2)], [read("x", 1)])
    assert "G1b" in types(history)
    assert types(history, "read-committed") == ["G1b"]
    own = at_once([append("x", 1), read("x", 1), append("x", 2)], [read("x", 1, 2)])
    assert types(own) == []


def test_g1c() -> None:
    """Two transactions that read each other's appends."""
    history = at_once([append("x", 1), read("y", 1)], [append("y", 1), read("x", 1)])
    assert types(history) == ["G1c"]
    assert types(history, "read-uncommitted") == []
    assert judge(history).evidence["not"] == ["read-committed"]


def test_g_single() -> None:
    """Read skew: one append of a transaction is seen, the other missed."""
    history = at_once([append("x", 1), append("y", 1)], [read("x", 1), read("y")])
    assert types(history) == ["G-single"]
    assert types(history, "snapshot-isolation") == ["G-single"]
    assert types(history, "read-committed") == []
    assert judge(history).evidence["not"] == ["consistent-view", "repeatable-read"]


def test_g_nonadjacent() -> None:
    """Long fork: two readers see two appends in opposite orders; snapshot isolation forbids it, read skew it is not."""
    history = at_once(
        [append("x", 1)],
        [append("y", 1)],
        [read("x", 1), read("y")],
        [read("y", 1), read("x")],
    )
    assert types(history) == ["G-nonadjacent"]
    assert types(history, "snapshot-isolation") == ["G-nonadjacent"]
    assert types(history, "consistent-view") == []


def test_g2_item() -> None:
    """Write skew: each misses what the other appends; snapshot isolation allows it."""
    history = at_once([read("x"), append("y", 1)], [read("y"), append("x", 1)], [read("x", 1), read("y", 1)])
    assert types(history) == ["G2-item"]
    assert types(history, "snapshot-isolation") == []
    assert judge(history).evidence["not"] == ["repeatable-read"]


def test_real_time_variants() -> None:
    """A transaction that began after another was over, yet came before it."""
    stale = in_turn([append("x", 1)], [read("x")])
    assert types(stale) == ["G-single-realtime"]
    assert types(stale, "strong-session-serializable") == types(stale, "serializable") == []
    assert judge(stale).evidence["not"] == ["strong-snapshot-isolation"]
    future = in_turn([read("x", 1)], [append("x", 1)])
    assert types(future) == ["G1c-realtime"]
    turned = in_turn([append("x", 1)], [append("x", 2)], [read("x", 2, 1)])
    assert types(turned) == ["G0-realtime"]
    assert judge(turned).evidence["not"] == ["strong-read-uncommitted"]


def test_process_variants() -> None:
    """A process that does not see its own past breaks session order, which is worse than breaking real time."""
    stale = by_one_process([append("x", 1)], [read("x")])
    assert types(stale) == ["G-single-process"]
    assert types(stale, "strong-session-snapshot-isolation") == ["G-single-process"]
    assert types(stale, "snapshot-isolation") == []
    assert types(by_one_process([read("x", 1)], [append("x", 1)])) == ["G1c-process"]
    assert types(by_one_process([append("x", 1)], [append("x", 2)], [read("x", 2, 1)])) == ["G0-process"]


def test_g_nonadjacent_in_order() -> None:
    """A long fork that only the order of two transactions closes."""
    sessions = history_of(
        [
            Txn(0, "ok", (append("x", 1),), 0, 2),
            Txn(1, "ok", (append("y", 1),), 1, 3),
            Txn(0, "ok", (read("y"),), 4, 6),
            Txn(1, "ok", (read("x"),), 5, 7),
        ]
    )
    assert types(sessions, "strong-session-serializable") == ["G-nonadjacent-process"]
    in_time = history_of(
        [
            Txn(0, "ok", (append("x", 1),), 0, 6),
            Txn(1, "ok", (read("x", 1), read("y")), 1, 7),
            Txn(2, "ok", (append("y", 1),), 2, 3),
            Txn(3, "ok", (read("x"),), 4, 5),
        ]
    )
    assert types(in_time) == ["G-nonadjacent-realtime"]
    assert judge(in_time).evidence["not"] == ["strong-snapshot-isolation"]


def test_g2_item_process() -> None:
    """Write skew that only the order of a process closes."""
    history = history_of(
        [
            Txn(0, "ok", (append("y", 1),), 0, 1),
            Txn(0, "ok", (read("x"),), 2, 3),
            Txn(1, "ok", (read("y"), append("x", 1)), 4, 5),
        ]
    )
    assert types(history, "strong-session-serializable") == ["G2-item-process"]


def test_g2_item_realtime() -> None:
    """Three transactions that miss each other in a row, closed by real time."""
    history = history_of(
        [
            Txn(0, "ok", (append("z", 1),), 0, 1),
            Txn(1, "ok", (read("x"), append("q", 1)), 2, 5),
            Txn(2, "ok", (read("z"), append("y", 1)), 3, 7),
            Txn(3, "ok", (read("y"), append("x", 1)), 4, 6),
        ]
    )
    assert "G-single-realtime" in types(history)
    adjacent = history_of(
        [
            Txn(0, "ok", (read("x"),), 2, 3),
            Txn(1, "ok", (read("y"), append("x", 1)), 0, 4),
            Txn(2, "ok", (append("y", 1),), 0, 1),
        ]
    )
    assert types(adjacent) == ["G2-item-realtime"]
    assert types(adjacent, "strong-snapshot-isolation") == []


def test_internal() -> None:
    """A transaction that contradicts itself: two reads that differ, an own append missing, misplaced, or unread."""
    for micro_ops in (
        [read("x"), read("x", 9)],
        [append("x", 1), read("x")],
        [read("x", 9), append("x", 1), read("x", 1)],
        [append("x", 1), append("x", 2), read("x", 1)],
    ):
        assert "internal" in types(at_once(micro_ops, [append("x", 9)])), micro_ops
    fine = at_once([append("x", 1), read("x", 9, 1), append("x", 2), read("x", 9, 1, 2)], [append("x", 9)])
    assert types(fine) == []


def test_future_read() -> None:
    """A read of what the same transaction appends only later."""
    found = types(at_once([read("x", 1), append("x", 1)]))
    assert "future-read" in found


def test_duplicate_elements() -> None:
    """One element twice in one read."""
    assert "duplicate-elements" in types(at_once([append("x", 1)], [read("x", 1, 1)]))


def test_incompatible_order() -> None:
    """Reads that are no prefixes of one list, and a transaction's own appends turned round."""
    history = at_once([append("x", 1)], [append("x", 2)], [read("x", 1)], [read("x", 2, 1)])
    assert "incompatible-order" in types(history)
    assert "incompatible-order" in types(at_once([append("x", 1), append("x", 2)], [read("x", 2, 1)]))
    assert "incompatible-order" in types(at_once([append("x", 1), append("x", 2)], [read("x", 2)]))


def test_dirty_update() -> None:
    """A committed append on top of one that failed; crashed ones in between change nothing."""
    history = ending("fail info ok ok", [append("x", 1)], [append("x", 2)], [append("x", 3)], [read("x", 1, 2, 3)])
    assert "dirty-update" in types(history)
    assert "dirty-update" not in types(ending("fail info ok", [append("x", 1)], [append("x", 2)], [read("x", 1, 2)]))


def test_lost_update() -> None:
    """Two transactions that read one state of a key and both appended, even if nobody ever read the result."""
    history = at_once([read("x"), append("x", 1)], [read("x"), append("x", 2)])
    assert "lost-update" in types(history)
    assert judge(history).evidence["not"] == ["cursor-stability", "update-atomic"]


def test_unwritten_read() -> None:
    """An element that nobody ever asked to append is not taken in silence."""
    assert types(at_once([append("x", 1)], [read("x", 1, 7)])) == ["unwritten-read"]


def test_what_crashed_may_happen_late_but_not_before_it_was_asked() -> None:
    """The append of a crashed transaction may show up at any later time, never in a read over before it began."""
    late = history_of(
        [Txn(0, "info", (append("x", 1),), 0, 1), Txn(1, "ok", (read("x"),), 2, 3), Txn(1, "ok", (read("x", 1),), 4, 5)]
    )
    assert types(late) == []
    early = history_of([Txn(0, "ok", (read("x", 1),), 0, 1), Txn(1, "info", (append("x", 1),), 2, 3)])
    assert types(early) == ["G1c-realtime"]


def test_who_appends_to_the_latest_state_is_not_before_itself() -> None:
    """Readers of the latest state that append to it come before each other's appends, never before their own."""
    assert types(at_once([read("x"), append("x", 1)], [append("x", 2)], [read("y")])) == []


def test_a_cycle_is_minimal_explained_and_carries_its_records() -> None:
    """Of a cycle through three transactions and one through two, the shorter is told, edge by edge."""
    history = at_once(
        [append("x", 1), append("y", 1)],
        [read("x", 1), append("z", 1)],
        [read("z", 1), read("y")],
        [read("x", 1), read("y")],
    )
    (anomaly,) = judge(history).anomalies
    assert anomaly.name == "G-single"
    steps = anomaly.details["cycle"]
    assert [(step["from"], step["to"], step["type"]) for step in steps] == [("T1", "T2", "rw"), ("T2", "T1", "wr")]
    assert steps[0]["explanation"] == "T1 read [] of key 'y' and so came before T2, which appended 1"
    assert steps[1]["explanation"] == "T1 read [1] of key 'x', which ends in T2's 1"
    assert [op.index for op in anomaly.ops] == [0, 3, 4, 7]
    assert anomaly.details["is_shortest"]
    assert all(step["explanation"] in anomaly.story for step in steps)


def test_values_and_keys_of_any_kind() -> None:
    """Strings, negative and huge numbers, lists as keys: only equality counts, and 1 is not "1"."""
    history = at_once(
        [append("x", "a"), append("x", -1), append(("k", 1), 1 << 60), append("x", 1)],
        [read("x", "a", -1, 1), read(("k", 1), 1 << 60)],
    )
    assert types(history) == []
    assert types(at_once([append("x", 1)], [read("x", "1")])) == ["unwritten-read"]
    braces = at_once([append("{0}", "{1}"), append("y", 1)], [read("{0}", "{1}"), read("y")])
    assert "{1}" in judge(braces).anomalies[0].story


def test_sparse_elements() -> None:
    """Elements far apart are found as well as those close together."""
    far = [append(key, element) for key in range(40) for element in (0, 1 << 30)]
    assert types(at_once(far, [read(7, 0, 1 << 30), read(8)])) == ["G-single"]
    assert types(at_once(far, [read(7, 0, 1 << 29)])) != []


def test_nothing_to_judge_is_unknown() -> None:
    """No transactions, or a single one, show nothing: Elle's empty graph."""
    assert judge(History()).verdict == Verdict.UNKNOWN
    result = judge(at_once([append("x", 1)]))
    assert result.verdict == Verdict.UNKNOWN
    assert "nothing to judge" in str(result.reason)
    assert result.evidence["strongest_left"] == []


def test_an_element_appended_twice_is_the_workloads_fault() -> None:
    """Then who read it cannot be told: UNKNOWN, and the reason names the element."""
    result = judge(at_once([append("x", 5)], [append("x", 5)], [read("x", 5)]))
    assert result.verdict == Verdict.UNKNOWN
    assert "5 was appended to key 'x' more than once" in str(result.reason)


def test_records_of_others_are_left_out() -> None:
    """Events, the nemesis and operations that are no transactions do not disturb the pairing."""
    history = History(
        [
            Op(0, 0, NEMESIS, "info", "kill"),
            Op(1, 1, 0, "invoke", "txn", None, [["append", "x", 1]]),
            Op(2, 2, 1, "invoke", "read", "x"),
            Op(3, 3, 0, "event", "txn", None, [], of=1),
            Op(4, 4, 0, "ok", "txn", None, [["append", "x", 1]]),
            Op(5, 5, 1, "ok", "read", "x", 1),
            Op(6, 6, 1, "invoke", "txn", None, [["r", "x", None]]),
            Op(7, 7, 1, "ok", "txn", None, [["r", "x", None]]),
        ]
    )
    result = judge(history)
    assert result.evidence["anomaly_types"] == ["G-single-realtime"]
    assert [op.index for op in result.anomalies[0].ops] == [1, 4, 6, 7]


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([("invoke", [["append", "x", 1]]), ("invoke", [["r", "x", None]])], "record 1"),
        ([("ok", [["r", "x", None]])], "record 0"),
        ([("invoke", [["w", "x", 1]]), ("ok", [["w", "x", 1]])], "'w'"),
        ([("invoke", [["r", "x", None]]), ("ok", [["r", "x", 3]])], "record 1"),
        ([("invoke", [["r", "x", None]]), ("ok", [["r", "x"]])], "record 1"),
        ([("invoke", [["r", "x", None]]), ("ok", "nonsense")], "record 1"),
    ],
)
def test_what_is_no_history_of_transactions_is_refused(records: list[tuple[str, object]], named: str) -> None:
    """Each complaint names the record or the piece that is wrong."""
    ops = [Op(place, place, 0, kind, "txn", None, value) for place, (kind, value) in enumerate(records)]  # type: ignore[arg-type]
    with pytest.raises(HistoryError, match=named):
        judge(History(ops))


def test_a_misspelt_model_is_refused() -> None:
    """With the nearest one that is known."""
    with pytest.raises(ConfigError, match="did you mean 'serializable'"):
        ListAppendChecker("serialisable")


def test_a_spent_budget_is_unknown_unless_something_was_found() -> None:
    """Out of steps nothing is decided; what was found before still stands."""
    fine = at_once([append("x", 1)], [read("x", 1)])
    with pytest.raises(BudgetExceeded):
        ListAppendChecker().check(Recording(fine), Budget(max_steps=3))
    assert run_checker(ListAppendChecker(), Recording(fine), Budget(max_steps=3)).verdict == Verdict.UNKNOWN
    bad = ending("fail ok", [append("x", 1)], [read("x", 1)])
    for steps in range(40):
        result = run_checker(ListAppendChecker(), Recording(bad), Budget(max_steps=steps))
        if result.verdict == Verdict.INVALID:
            break
    assert result.verdict == Verdict.INVALID
    assert "gave up" in str(result.reason)


def test_the_papers_example(shared_data: Path) -> None:
    """The example of the Elle paper is not serializable, by read skew around its appends."""
    result = judge(read_any(shared_data / "elle" / "paper-example.edn"))
    assert result.verdict == Verdict.INVALID
    assert "serializable" in result.evidence["also_not"]
