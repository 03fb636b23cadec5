"""Histories: what is written is read back, pairing follows Jepsen's rules, and torn or garbled files behave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitvote.harness.errors import EnvironmentFailure, HistoryError
from splitvote.harness.history import History, HistoryWriter, columns_of, read_columns, read_history
from splitvote.harness.op import NEMESIS, Op


def write(path: Path, records: list[Op]) -> Path:
    writer = HistoryWriter(path)
    for record in records:
        writer.append(record)
    writer.close()
    return path


@st.composite
def histories(draw: st.DrawFn) -> list[Op]:
    """Well-formed histories: every process has at most one operation open; events and the nemesis in between."""
    records: list[Op] = []
    open_: dict[int, int] = {}
    for index in range(draw(st.integers(0, 40))):
        process = draw(st.integers(-1, 4))
        if process == NEMESIS:
            record = Op(index, index * 10, NEMESIS, "info", "kill", value=["n1"])
        elif process in open_ and draw(st.booleans()):
            record = Op(index, index * 10, process, "event", "write", of=open_[process], value={"seen": index})
        elif process in open_:
            outcome = draw(st.sampled_from(["ok", "fail", "info"]))
            record = Op(index, index * 10, process, outcome, "write", key=process, value=index, revision=index)
            del open_[process]
        else:
            record = Op(index, index * 10, process, "invoke", "write", key=process, value=draw(st.text()))
            open_[process] = index
        records.append(record)
    return records


@given(records=histories())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, records: list[Op]) -> None:
    path = write(tmp_path_factory.mktemp("history") / "history.jsonl", records)
    assert list(read_history(path)) == records


@given(records=histories())
def test_columns_agree_with_the_records_and_their_pairs(records: list[Op]) -> None:
    columns = columns_of([records[:7], records[7:]])
    assert columns.index.tolist() == [op.index for op in records]
    assert [columns.f_names[code] for code in columns.f] == [op.f for op in records]
    assert columns.value == [op.value for op in records]
    expected = [-1] * len(records)
    for operation in History(records).operations:
        if operation.completion is not None:
            expected[operation.invoke.index] = operation.completion.index
            expected[operation.completion.index] = operation.invoke.index
    assert columns.pair.tolist() == expected


def test_to_pandas_has_a_row_a_record_with_names_and_keys(tmp_path: Path) -> None:
    records = [Op(0, 5, 0, "invoke", "write", key=[1, 2], value=7), Op(1, 9, 0, "ok", "write", key=[1, 2], value=7)]
    frame = read_columns(write(tmp_path / "history.jsonl", records)).to_pandas()
    assert frame["type"].tolist() == ["invoke", "ok"]
    assert frame["key"].tolist() == [(1, 2), (1, 2)]
    assert frame["pair"].tolist() == [1, 0]


@given(records=histories().filter(bool), cut=st.integers(1, 10_000))
def test_a_torn_last_line_is_dropped_and_counted(
    tmp_path_factory: pytest.TempPathFactory, records: list[Op], cut: int
) -> None:
    path = write(tmp_path_factory.mktemp("history") / "history.jsonl", records)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    torn = 1 + cut % (len(whole) - 1 - last)
    path.write_bytes(whole[: last + torn])
    history = read_history(path)
    assert list(history) == records[:-1]
    assert history.torn_bytes == torn


def test_garbage_in_the_middle_names_the_line_and_what_is_intact(tmp_path: Path) -> None:
    path = write(tmp_path / "history.jsonl", [Op(i, i, i, "invoke", "read") for i in range(3)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"index": oops\n' + lines[2])
    with pytest.raises(HistoryError, match=r"history\.jsonl:2: not a record .*the 1 lines before it are intact"):
        read_history(path)


def test_a_record_of_the_wrong_type_is_garbage(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"index":0,"time_ns":0,"process":0,"type":"perhaps","f":"read"}\n')
    with pytest.raises(HistoryError, match="perhaps"):
        read_history(path)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([Op(0, 0, 1, "invoke", "read"), Op(1, 1, 1, "invoke", "read")], "record 1: process 1 invokes 'read' while"),
        ([Op(0, 0, 1, "ok", "read")], "record 0: process 1 completes 'read'"),
    ],
)
def test_impossible_pairings_name_the_record(records: list[Op], complaint: str) -> None:
    with pytest.raises(HistoryError, match=complaint):
        _ = History(records).operations


def test_an_open_operation_counts_as_info() -> None:
    (operation,) = History([Op(0, 0, 1, "invoke", "write", value=3)]).operations
    assert (operation.type, operation.completion, operation.output) == ("info", None, None)


def test_a_history_never_overwrites_but_continues_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "history.jsonl", [Op(0, 0, 0, "invoke", "read")])
    write(path, [Op(1, 1, 0, "ok", "read")])
    assert [op.index for op in read_history(path)] == [0, 1]


def test_a_killed_writer_loses_only_what_it_had_not_flushed(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from splitvote.harness.history import HistoryWriter\n"
        "from splitvote.harness.op import Op\n"
        "writer = HistoryWriter(Path(sys.argv[1]))\n"
        "for i in range(1000): writer.append(Op(i, i, i, 'invoke', 'read'))\n"
        "writer.flush()\n"
        "writer.append(Op(1000, 1000, 1000, 'invoke', 'read'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -9
    assert len(read_history(path)) == 1000


def test_a_full_disk_is_one_clear_error() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    writer = HistoryWriter(full)
    writer.append(Op(0, 0, 0, "invoke", "read"))
    with pytest.raises(EnvironmentFailure, match=r"cannot write /dev/full: No space left.*--store"):
        writer.close()


def test_a_missing_file_is_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="give a run directory or a history file"):
        read_history(tmp_path / "nothing.jsonl")


def test_by_key_groups_operations_and_takes_list_keys() -> None:
    records = [Op(0, 0, 0, "invoke", "read", key=[1]), Op(1, 1, 1, "invoke", "read", key=2)]
    assert {key: [operation.process for operation in found] for key, found in History(records).by_key().items()} == {
        (1,): [0],
        2: [1],
    }


def test_values_json_has_no_word_for_are_kept_readable(tmp_path: Path) -> None:
    path = write(tmp_path / "history.jsonl", [Op(0, 0, 0, "invoke", "read", value={3, 1})])
    assert read_history(path)[0].value == [1, 3]
