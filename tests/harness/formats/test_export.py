"""Exported histories read back, and look as Elle and Knossos expect them."""

from __future__ import annotations

import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.formats import read_any, write_edn, write_jsonl, write_parquet
from splitvote.harness.formats.export import edn_lines
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op


def test_edn_as_jepsen_writes_it() -> None:
    history = [
        Op(index=0, time_ns=5, process=NEMESIS, type="info", f="kill", value=["n1", "n2"]),
        Op(index=1, time_ns=6, process=1, f="txn", value=[["append", 3, 1], ["r", 3, None]]),
        Op(index=2, time_ns=7, process=1, type="event", f="txn", value="seen", of=1),
        Op(index=3, time_ns=8, process=1, type="ok", f="txn", value=[["append", 3, 1], ["r", 3, [1]]]),
        Op(index=4, time_ns=9, process=2, f="transfer", value={"from": 0, "to": "b", "amount": 5}),
        Op(index=5, time_ns=9, process=2, type="info", f="transfer", error="timeout: 5 s", node="n1", value={0: 10}),
    ]
    assert list(edn_lines(history)) == [
        '{:type :info, :f :kill, :value ["n1" "n2"], :process :nemesis, :time 5, :index 0}',
        "{:type :invoke, :f :txn, :value [[:append 3 1] [:r 3 nil]], :process 1, :time 6, :index 1}",
        "{:type :ok, :f :txn, :value [[:append 3 1] [:r 3 [1]]], :process 1, :time 8, :index 2}",
        '{:type :invoke, :f :transfer, :value {:from 0, :to "b", :amount 5}, :process 2, :time 9, :index 3}',
        '{:type :info, :f :transfer, :value {0 10}, :process 2, :time 9, :index 4, :error "timeout: 5 s", :node "n1"}',
    ]


def test_independent_keys_go_to_the_value_or_to_a_field() -> None:
    op = Op(index=0, time_ns=0, process=0, f="put", key="a", value="x")
    assert list(edn_lines([op])) == ['{:type :invoke, :f :put, :value ["a" "x"], :process 0, :time 0, :index 0}']
    assert list(edn_lines([op], keys="field")) == [
        '{:type :invoke, :f :put, :value "x", :process 0, :time 0, :index 0, :key "a"}'
    ]


def test_an_f_that_is_no_keyword_is_refused() -> None:
    with pytest.raises(HistoryError, match=r"record 3: f 'two words' cannot be an EDN keyword"):
        list(edn_lines([Op(index=3, f="two words")]))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
keys = st.none() | st.integers() | st.text(max_size=3) | st.tuples(st.integers(), st.integers())


@st.composite
def histories(draw: st.DrawFn) -> list[Op]:
    ops = []
    time_ns = 0
    for index in range(draw(st.integers(0, 6))):
        time_ns += draw(st.integers(0, 5))
        process = draw(st.sampled_from([NEMESIS, 0, 1, 2]))
        ops.append(
            Op(
                index=index,
                time_ns=time_ns,
                process=process,
                type="info" if process == NEMESIS else draw(st.sampled_from(["invoke", "ok"])),
                f=draw(st.sampled_from(["read", "write", "txn"])),
                key=draw(keys),
                value=draw(values),
                error=draw(st.none() | st.text(max_size=4)),
                node=draw(st.none() | st.just("n1")),
                revision=draw(st.none() | st.integers(0, 99)),
                intended_ns=draw(st.none() | st.integers(0, 99)),
                extra=draw(st.none() | st.just({"observed": True, "why": ["x"]})),
            )
        )
    return ops


@given(ops=histories())
@settings(max_examples=200, deadline=None)
def test_edn_reads_back(tmp_path_factory: pytest.TempPathFactory, ops: list[Op]) -> None:
    path = tmp_path_factory.mktemp("edn") / "history.edn"
    write_edn(ops, path, keys="field")
    if ops:
        assert list(read_any(path, "edn")) == ops


@given(ops=histories())
@settings(max_examples=100, deadline=None)
def test_jsonl_reads_back(tmp_path_factory: pytest.TempPathFactory, ops: list[Op]) -> None:
    """All but the difference between lists and tuples, which JSON has not."""
    path = tmp_path_factory.mktemp("jsonl") / "history.jsonl"
    write_jsonl(ops, path)
    again = list(read_any(path)) if ops else []
    assert [with_tuple_key(op) for op in again] == ops


def with_tuple_key(op: Op) -> Op:
    return msgspec.structs.replace(op, key=tuple(op.key)) if isinstance(op.key, list) else op


def test_jsonl_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_jsonl([Op(index=0, time_ns=0, process=0, f="a")], path)
    write_jsonl([Op(index=0, time_ns=0, process=0, f="b")], path)
    assert [op.f for op in read_any(path)] == ["b"]


def test_jsonl_writes_what_json_has_not_as_text(tmp_path: Path) -> None:
    write_jsonl([Op(index=0, value={(1, 2): Fraction(1, 3)})], tmp_path / "history.jsonl")
    assert read_any(tmp_path)[0].value == {"(1, 2)": "Fraction(1, 3)"}


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'splitvote\[parquet\]'"):
        write_parquet(History([]), tmp_path / "history.parquet")


def test_parquet_reads_back(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow (extra parquet) is not installed")
    import pandas as pd

    history = History(
        [
            Op(index=0, time_ns=3, process=0, f="txn", key=(1, 2), value=[["r", 1, None]]),
            Op(index=1, time_ns=4, process=0, type="ok", f="txn", key=(1, 2), value=Decimal("1.5"), revision=7),
        ]
    )
    write_parquet(history, tmp_path / "history.parquet")
    frame = pd.read_parquet(tmp_path / "history.parquet")
    assert list(frame["value"]) == ['[["r",1,null]]', '"1.5"']
    assert list(frame["key"]) == ["[1,2]", "[1,2]"]
    assert list(frame["type"]) == ["invoke", "ok"]
    assert list(frame["revision"]) == [-1, 7]
