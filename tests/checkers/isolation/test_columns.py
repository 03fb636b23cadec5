"""Columns: from records and from disk alike, at any size, with components of any size."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from splitvote.checkers.isolation import ListAppendChecker, RwRegisterChecker
from splitvote.checkers.isolation.case import MOST_EXAMPLES
from splitvote.checkers.isolation.drawing import Arrow, Node, dot, svg
from splitvote.checkers.isolation.graph import RW, VIA, components, fans
from splitvote.checkers.isolation.transactions import Dialect, read_transactions, transactions_of
from splitvote.harness.history import History, HistoryWriter
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Verdict
from tests.checkers.isolation.brute import Txn
from tests.checkers.isolation.histories import history_of, random_txns


def write(history: History, path: Path) -> Path:
    writer = HistoryWriter(path)
    for op in history:
        writer.append(op)
    writer.close()
    return path


@pytest.mark.parametrize("dialect", ["append", "w"])
def test_a_file_is_judged_as_its_records_are(dialect: Dialect, tmp_path: Path) -> None:
    """The same verdict, anomalies, words and records, read from disk or from memory."""
    checker = ListAppendChecker() if dialect == "append" else RwRegisterChecker(key_orders=("wfr", "linearizable"))
    invalid = 0
    for seed in range(60):
        history = history_of(random_txns(random.Random(seed), dialect))
        path = write(history, tmp_path / f"{seed}.jsonl")
        from_file = checker.check_file(path, Budget())
        assert msgspec.to_builtins(from_file) == msgspec.to_builtins(checker.check(Recording(history), Budget()))
        invalid += from_file.verdict == Verdict.INVALID
    assert invalid > 10


def test_columns_hold_what_the_records_say(tmp_path: Path) -> None:
    """Outcomes, places, micro-operations and values; of what failed or crashed, only what it asked to write."""
    history = history_of(
        [
            Txn(3, "ok", (("append", "k", "a"), ("r", "k", ["a", 7])), 0, 1),
            Txn(4, "info", (("r", "k", None), ("append", "k", 7)), 2, 3),
            Txn(5, "fail", (("append", "j", -5),), 4, 5),
        ]
    )
    for txns in (transactions_of(history, "append"), read_transactions(write(history, tmp_path / "h"), "append")):
        assert txns.type.tolist() == [1, 3, 2]
        assert txns.process.tolist() == [3, 4, 5]
        assert txns.invoke.tolist() == [0, 2, 4]
        assert txns.complete.tolist() == [1, -1, -1]
        assert txns.last.tolist() == [1, 3, 5]
        assert [txns.micro_ops(txn) for txn in range(3)] == [
            [["w", "k", "a"], ["r", "k", ["a", 7]]],
            [["w", "k", 7]],
            [["w", "j", -5]],
        ]


def serial_history(transactions: int, seed: int) -> list[Txn]:
    """A strictly serializable list-append history of transactions that do not overlap."""
    dice = random.Random(seed)
    lists: dict[int, list[int]] = {}
    txns = []
    for number in range(transactions):
        micro_ops = []
        for _ in range(dice.randint(1, 3)):
            key = number // 40 + dice.randrange(3)
            if dice.random() < 0.5:
                micro_ops.append(("r", key, list(lists.get(key, []))))
            else:
                lists.setdefault(key, []).append(number * 4 + len(micro_ops))
                micro_ops.append(("append", key, lists[key][-1]))
        txns.append(Txn(dice.randrange(5), "ok", tuple(micro_ops), 2 * number, 2 * number + 1))
    return txns


def test_thousands_of_transactions_in_one_component_are_bounded() -> None:
    """A transaction that claims to have run long after it did ties all in between together."""
    txns = serial_history(6000, seed=1)
    first, last = txns[30], txns[-30]
    txns[30] = Txn(first.process, "ok", first.micro_ops, last.invoke, last.complete)
    txns[-30] = Txn(last.process, "ok", last.micro_ops, first.invoke, first.complete)
    started = time.process_time()
    result = ListAppendChecker().check(Recording(history_of(txns)), Budget())
    assert result.verdict == Verdict.INVALID
    assert result.stats["largest_component"] > 5000
    assert time.process_time() - started < 30  # some two seconds where nobody else is at work
    for anomaly in result.anomalies:
        assert len(anomaly.details["cycle"]) < 10


def test_many_findings_are_counted_and_few_are_told() -> None:
    """A store that breaks a thousand times gives a few examples of each kind, and how many there were."""
    txns = [
        txn
        for number in range(300)
        for txn in (
            Txn(0, "fail", (("append", number, 1),), 4 * number, 4 * number + 1),
            Txn(1, "ok", (("r", number, [1]),), 4 * number + 2, 4 * number + 3),
        )
    ]
    result = ListAppendChecker().check(Recording(history_of(txns)), Budget())
    assert result.evidence["counts"] == {"G1a": 300}
    assert len(result.anomalies) == MOST_EXAMPLES


def test_many_small_cycles_are_counted() -> None:
    """Two hundred separate write skews: each component counts, a few are shown."""
    txns = []
    for number in range(200):
        x, y, at = 2 * number, 2 * number + 1, 6 * number
        txns += [
            Txn(0, "ok", (("r", x, []), ("append", y, 1)), at, at + 2),
            Txn(1, "ok", (("r", y, []), ("append", x, 1)), at + 1, at + 3),
            Txn(2, "ok", (("r", x, [1]), ("r", y, [1])), at + 4, at + 5),
        ]
    result = ListAppendChecker().check(Recording(history_of(txns)), Budget())
    assert result.evidence["counts"] == {"G2-item": 200}
    assert len(result.anomalies) == MOST_EXAMPLES
    assert result.stats["components"] == 200


def test_the_same_history_gives_the_same_result() -> None:
    """Word for word, however often it is judged."""
    for seed in range(20):
        recording = Recording(history_of(random_txns(random.Random(seed), "append")))
        once, twice = (msgspec.json.encode(ListAppendChecker().check(recording, Budget())) for _ in range(2))
        assert once == twice


def test_results_are_json() -> None:
    """Evidence, details and drawings survive encoding as JSON."""
    for dialect, checker in (("append", ListAppendChecker()), ("w", RwRegisterChecker())):
        for seed in range(40):
            result = checker.check(Recording(history_of(random_txns(random.Random(seed), dialect))), Budget())  # type: ignore[attr-defined]
            assert json.loads(msgspec.json.encode(result))["verdict"] == result.verdict


def test_fans_lead_from_every_reader_to_every_other_writer_and_to_nobody_else() -> None:
    """By way of stations, whose number is linear; against the product of readers and writers."""
    dice = random.Random(5)
    for _ in range(50):
        readers = [(dice.randrange(8), dice.randrange(3)) for _ in range(dice.randrange(1, 9))]
        writers = [(dice.randrange(8), dice.randrange(3)) for _ in range(dice.randrange(1, 9))]
        columns = [np.array(column) for column in (*zip(*readers, strict=True), *zip(*writers, strict=True))]
        edges, stations = fans(*columns, 8, 8)
        assert stations <= 2 * len(writers)
        onward: dict[int, list[int]] = {}
        for source, target, kind in zip(edges.source.tolist(), edges.target.tolist(), edges.kind.tolist(), strict=True):
            assert kind == (RW if source < 8 else RW | VIA)
            onward.setdefault(source, []).append(target)
        reached = set()
        for start in range(8):
            frontier = [node for node in onward.get(start, []) if node >= 8]
            while frontier:
                for node in onward.get(frontier.pop(), []):
                    if node >= 8:
                        frontier.append(node)
                    else:
                        reached.add((start, node))
        assert reached == {(one, two) for one, key in readers for two, other in writers if key == other and one != two}


def test_components_of_parallel_edges() -> None:
    """The same edge many times over is one edge."""
    labels, shared = components(4, np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 1, 0, 0, 3]))
    assert shared.tolist() == [True, True, False, False]
    assert labels[0] == labels[1] != labels[2] != labels[3]


def test_drawings_escape_what_the_history_holds() -> None:
    """Markup and quotes in keys and values stay text, in SVG and in DOT."""
    evil = '<script>"&\\'
    nodes = [Node("T1", evil, evil * 30), Node("T2", evil, evil)]
    arrows = [Arrow(0, 1, "ww", evil), Arrow(1, 0, "rw", evil)]
    drawing = ElementTree.fromstring(svg(nodes, arrows, evil))
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.split("}")[1] for element in drawing.iter()} == {
        "svg", "title", "defs", "marker", "path", "rect", "text",
    }  # fmt: skip
    text = dot(nodes, arrows, evil)
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert "<" not in outside
    assert '"' not in outside
    assert text.startswith('digraph "<script>\\"&\\\\" {')


def test_every_cycle_is_drawn() -> None:
    """One box a transaction, one arrow an edge, in both drawings."""
    history = history_of(
        [
            Txn(0, "ok", (("append", "x", 1), ("append", "y", 1)), 0, 2),
            Txn(1, "ok", (("r", "x", [1]), ("r", "y", [])), 1, 3),
        ]
    )
    (anomaly,) = ListAppendChecker().check(Recording(history), Budget()).anomalies
    drawing = ElementTree.fromstring(anomaly.details["svg"])
    name = "{http://www.w3.org/2000/svg}"
    assert len(drawing.findall(f"{name}rect")) == 1 + 2
    assert len(drawing.findall(f"{name}path")) == 2
    assert "r x [1]; r y []" in "".join(drawing.itertext())
    assert anomaly.details["dot"].count("->") == 2


def test_a_part_of_a_run_is_judged_alike_and_told_by_the_runs_own_numbers() -> None:
    """A projection's records keep their index; stories, records and drawings must not name places instead."""
    whole = history_of(
        [
            Txn(0, "ok", (("append", "x", 1),), 0, 1),
            Txn(1, "ok", (("r", "x", []),), 2, 3),
        ]
    )
    part = History(msgspec.structs.replace(op, index=10 + 7 * op.index) for op in whole)
    (anomaly,) = ListAppendChecker().check(Recording(part), Budget()).anomalies
    assert anomaly.name == "G-single-realtime"
    assert [op.index for op in anomaly.ops] == [10, 17, 24, 31]
    assert {told["invoked_at"] for told in anomaly.details["transactions"].values()} == {10, 24}
    assert "it completed at record 17" in anomaly.story
    assert "was invoked at record 24" in anomaly.story
    assert "record 24" in anomaly.details["svg"]


@pytest.mark.parametrize("numbers", [[-2, -2, -2, -2], [3, 1, 2, 0], [0, 1, 2, 3]])
def test_numbers_that_are_no_order_are_left_alone(numbers: list[int]) -> None:
    """Foreign histories may have none; then a record's place is its number."""
    whole = history_of([Txn(0, "ok", (("append", "x", 1),), 0, 1), Txn(1, "ok", (("r", "x", []),), 2, 3)])
    history = History(msgspec.structs.replace(op, index=number) for op, number in zip(whole, numbers, strict=True))
    (anomaly,) = ListAppendChecker().check(Recording(history), Budget()).anomalies
    assert "it completed at record 1" in anomaly.story
