"""rw-register: every anomaly by its smallest example, version orders by what they let be seen."""

from __future__ import annotations

import pytest

from splitvote.checkers.isolation import RwRegisterChecker
from splitvote.checkers.isolation.register_order import KeyOrder
from splitvote.harness.errors import ConfigError
from splitvote.harness.history import History
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict
from tests.checkers.isolation.brute import Txn
from tests.checkers.isolation.histories import at_once, by_one_process, ending, history_of, in_turn


def judge(history: History, model: str = "strict-serializable", orders: tuple[KeyOrder, ...] = ()) -> Result:
    return RwRegisterChecker(model, key_orders=orders).check(Recording(history), Budget())


def types(history: History, model: str = "strict-serializable", orders: tuple[KeyOrder, ...] = ()) -> list[str]:
    """The anomalies found; none exactly when the history is valid."""
    result = judge(history, model, orders)
    assert (result.verdict == Verdict.INVALID) == bool(result.anomalies)
    return list(result.evidence["anomaly_types"])


def write(key: object, value: object) -> tuple[str, object, object]:
    return "w", key, value


def read(key: object, value: object = None) -> tuple[str, object, object]:
    return "r", key, value


ALL: tuple[KeyOrder, ...] = ("wfr", "sequential", "linearizable")


def test_what_is_strictly_serializable_is_valid_under_every_order() -> None:
    """Reads of what was written last, a failed write nobody saw, a crashed one somebody saw."""
    history = history_of(
        [
            Txn(0, "ok", (write("x", 1), write("y", 1)), 0, 1),
            Txn(1, "fail", (write("x", 2),), 2, 3),
            Txn(2, "info", (write("x", 3),), 4, 5),
            Txn(0, "ok", (read("x", 3), write("x", 4), read("x", 4)), 6, 7),
            Txn(1, "ok", (read("x", 4), read("y", 1), read("z")), 8, 9),
        ]
    )
    for orders in ((), ("wfr",), ("sequential",), ("linearizable",), ALL):
        result = judge(history, orders=orders)  # type: ignore[arg-type]
        assert result.verdict == Verdict.VALID
        assert result.evidence["strongest_left"] == ["strong-serializable"]


def test_g1a() -> None:
    """A read of what a failed transaction wrote."""
    assert types(ending("fail ok", [write("x", 1)], [read("x", 1)])) == ["G1a"]


def test_g1b() -> None:
    """A read of what its writer overwrote; its own such reads are fine."""
    assert types(at_once([write("x", 1), write("x", 2)], [read("x", 1)], [read("y")])) == ["G1b"]
    assert types(at_once([write("x", 1), read("x", 1), write("x", 2)], [read("x", 2)])) == []


def test_g1c() -> None:
    """Two transactions that read each other's writes."""
    assert types(at_once([write("x", 1), read("y", 1)], [write("y", 1), read("x", 1)])) == ["G1c"]


def test_g_single_by_the_initial_state() -> None:
    """Read skew: one write of a transaction is seen, for the other still the initial state."""
    history = at_once([write("x", 1), write("y", 1)], [read("x", 1), read("y")])
    assert types(history) == ["G-single"]
    (anomaly,) = judge(history).anomalies
    assert anomaly.details["cycle"][0]["explanation"] == (
        "T1 read the initial state of key 'y' and so came before T2, which wrote 1"
    )
    assert anomaly.details["cycle"][1]["explanation"] == "T1 read 1 of key 'x', which T2 wrote"


def test_g_single_through_a_crashed_write() -> None:
    """That a crashed transaction's write was read proves that all of it happened."""
    assert types(ending("info ok", [write("x", 1), write("y", 1)], [read("x", 1), read("y")])) == ["G-single"]


def test_g2_item() -> None:
    """Write skew."""
    assert types(at_once([read("x"), write("y", 1)], [read("y"), write("x", 1)])) == ["G2-item"]


def test_g_single_realtime() -> None:
    """The initial state is read after a write was over."""
    assert types(in_turn([write("x", 1)], [read("x")])) == ["G-single-realtime"]
    assert types(by_one_process([write("x", 1)], [read("x")])) == ["G-single-process"]


def test_lost_update() -> None:
    """Two transactions read one version and both replaced it."""
    assert "lost-update" in types(at_once([read("x"), write("x", 1)], [read("x"), write("x", 2)]))


def test_internal() -> None:
    """A transaction contradicts its own last read or write, the initial state included."""
    for micro_ops in ([read("x"), read("x", 9)], [write("x", 1), read("x", 9)], [write("x", 1), read("x")]):
        assert "internal" in types(at_once(micro_ops, [write("x", 9)])), micro_ops


def test_future_read() -> None:
    """A read of what the same transaction writes only later; Elle's registers do not see it."""
    assert types(at_once([read("x", 1), write("x", 1)], [read("y")])) == ["future-read"]


def test_unwritten_read() -> None:
    """A value that nobody ever asked to write; Elle's registers accept it."""
    assert types(at_once([write("x", 1)], [read("x", 7)], [read("x", 1)])) == ["unwritten-read"]


def test_wfr_orders_what_a_transaction_replaced() -> None:
    """Who read 1 and wrote 2 put 2 after 1: a reader of 1 that saw another effect of the writer of 2 is skewed."""
    history = at_once(
        [write("x", 1)],
        [read("x", 1), write("x", 2), write("y", 1)],
        [read("x", 1), read("y", 1)],
    )
    assert types(history) == []
    assert types(history, orders=("wfr",)) == ["G-single"]
    story = judge(history, orders=("wfr",)).anomalies[0].story
    assert "read the one and then wrote the other" in story


def test_sequential_keys_never_go_back_within_a_process() -> None:
    """A process that read 2 and then 1 put 1 after 2; another that saw them the other way round contradicts it."""
    history = history_of(
        [
            Txn(0, "ok", (write("x", 1),), 0, 10),
            Txn(1, "ok", (write("x", 2),), 1, 11),
            Txn(2, "ok", (read("x", 1),), 2, 3),
            Txn(2, "ok", (read("x", 2),), 4, 5),
            Txn(3, "ok", (read("x", 2),), 2, 3),
            Txn(3, "ok", (read("x", 1),), 6, 7),
        ]
    )
    assert types(history, orders=("sequential",)) == ["cyclic-versions"]
    (anomaly,) = judge(history, orders=("sequential",)).anomalies
    assert anomaly.key == "x"
    assert "2 came after 1" in anomaly.story
    assert "1 came after 2" in anomaly.story
    assert anomaly.details["source"] == "sequential"


def test_linearizable_keys_never_go_back_in_real_time() -> None:
    """A stale read after two writes, which the initial state alone does not show."""
    history = in_turn([write("x", 1)], [write("x", 2)], [read("x", 1)])
    assert types(history) == []
    assert types(history, orders=("linearizable",)) == ["cyclic-versions"]
    back_to_nothing = in_turn([write("x", 1)], [read("x")])
    assert "cyclic-versions" in types(back_to_nothing, orders=("linearizable",))


def test_linearizable_order_reaches_past_who_replaced_a_version() -> None:
    """1 came before the 3 of a transaction that found 2 and left 3, so that 1 cannot be found after it."""
    history = history_of(
        [
            Txn(0, "ok", (write("x", 2),), 0, 20),
            Txn(1, "ok", (write("x", 1),), 1, 2),
            Txn(2, "ok", (read("x", 2), write("x", 3)), 3, 4),
            Txn(3, "ok", (read("x", 1),), 5, 6),
        ]
    )
    assert types(history, orders=("linearizable",)) == ["cyclic-versions"]
    assert "1 came after 3" in judge(history, orders=("linearizable",)).anomalies[0].story


def test_a_source_that_contradicts_is_left_out() -> None:
    """What the other sources say still counts: the cycle by wfr is found beside the contradiction."""
    skew = [
        Txn(0, "ok", (write("x", 1),), 0, 1),
        Txn(1, "ok", (read("x", 1), write("x", 2), write("y", 1)), 2, 20),
        Txn(2, "ok", (read("x", 1), read("y", 1)), 3, 21),
    ]
    backwards = [
        Txn(3, "ok", (write("z", 1),), 4, 5),
        Txn(4, "ok", (write("z", 2),), 6, 7),
        Txn(5, "ok", (read("z", 1),), 8, 9),
    ]
    found = types(history_of([*skew, *backwards]), orders=("wfr", "linearizable"))
    assert found == ["G-single", "cyclic-versions"]


@pytest.mark.parametrize(
    ("txns", "named"),
    [
        (([write("x", 5)], [write("x", 5)]), "5 was written to key 'x' more than once"),
        (([write("x", None)], [read("x")]), "wrote nil"),
    ],
)
def test_what_cannot_be_told_apart_is_unknown(txns: tuple[list[tuple[str, object, object]], ...], named: str) -> None:
    """Values written twice, and nil, are the workload's fault."""
    result = judge(at_once(*txns))
    assert result.verdict == Verdict.UNKNOWN
    assert named in str(result.reason)


def test_a_misspelt_order_is_refused() -> None:
    """With the nearest one that is known."""
    with pytest.raises(ConfigError, match="did you mean 'linearizable'"):
        RwRegisterChecker(key_orders=("linearisable",))  # type: ignore[arg-type]
