"""Every format reads into the same records; detection is by content; errors name file, place and next step."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.formats import FormatName, detect_format, read_any, write_jsonl
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op

EDN_LINES = """\
{:type :invoke, :f :write, :value 3, :process 0, :time 10, :index 0}
{:type :info, :f :kill, :value ["n1"], :process :nemesis, :time 15, :index 1}
{:type :ok, :f :write, :value 3, :process 0, :time 20, :index 2, :node "n1"}
"""
RECORDS = [
    Op(index=0, time_ns=10, process=0, type="invoke", f="write", value=3),
    Op(index=1, time_ns=15, process=NEMESIS, type="info", f="kill", value=["n1"]),
    Op(index=2, time_ns=20, process=0, type="ok", f="write", value=3, node="n1"),
]
LOG = """\
2015-03-02 12:00:00,000 INFO  jepsen.core - Everything set up
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 1\t:invoke\t:cas\t[0 1]
INFO  jepsen.util - 1\t:fail\t:cas\t[0 1]
INFO  jepsen.util - 2\t:invoke\t:write\t4
INFO  jepsen.util - 0\t:fail\t:read\t:timed-out
INFO  jepsen.util - 2\t:info\t:write\t:timed-out
INFO  jepsen.util - 1\t:invoke\t:write\t2
INFO  jepsen.util - 1\t:info\t:write\t2\tjava.net.ConnectException: Connection refused
"""
KV = """\
{:process 0, :type :invoke, :f :put, :key "a", :value "x"}
{:process 0, :type :ok, :f :put, :key "a", :value "x"}
{:process 1, :type :invoke, :f :get, :key "a", :value nil}
{:process 1, :type :ok, :f :get, :key "a", :value ""}
"""


def written(folder: Path, text: str, name: str = "history") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        EDN_LINES,
        "[" + EDN_LINES + "]",
        "; a comment\n(" + EDN_LINES.replace("\n", " ; and more\n") + ")",
        EDN_LINES.replace("{:type", "#jepsen.history.Op{:type"),
        "[#_{:type :invoke} " + "\n".join(reversed(EDN_LINES.splitlines())) + "]",
    ],
    ids=["lines", "vector", "list with comments", "tagged", "indices out of order"],
)
def test_edn_in_every_shape(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert detect_format(path) == "edn"
    assert list(read_any(path)) == RECORDS


def test_missing_index_time_process_and_f_are_filled_in(tmp_path: Path) -> None:
    """The Elle paper's example has neither f nor process nor time."""
    path = written(tmp_path, "{:type :invoke :value [[:append 1 2]]} {:type :ok :value [[:append 1 2]] :time 70}")
    assert list(read_any(path)) == [
        Op(index=0, time_ns=0, process=0, type="invoke", f="txn", value=[["append", 1, 2]]),
        Op(index=1, time_ns=70, process=0, type="ok", f="txn", value=[["append", 1, 2]]),
    ]


def test_the_order_of_the_file_is_the_order_of_time(tmp_path: Path) -> None:
    """Clocks that step back do not reorder an EDN history."""
    path = written(tmp_path, "{:type :invoke :f :a :process 0 :time 90} {:type :invoke :f :b :process 1 :time 5}")
    assert [(op.f, op.time_ns) for op in read_any(path)] == [("a", 90), ("b", 5)]


def test_other_fields_and_errors(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "{:type :invoke :f :read :process 7 :debug {:txn-id 4} :key [1 2]}"
        '{:type :info :f :read :process 7 :error [:conn "refused by" 3] :exception {:via []} :revision 9}'
        "{:type :invoke :f :read :process 8}{:type :info :f :read :process 8 :error :crash}"
        "{:type :invoke :f :read :process 9}{:type :info :f :read :process 9 :error {:status 503}}",
    )
    records = list(read_any(path))
    assert records[0].extra == {"debug": {"txn-id": 4}}
    assert records[0].key == (1, 2)
    assert (records[1].error, records[1].extra, records[1].revision) == (
        "conn: refused by 3",
        {"exception": {"via": []}},
        9,
    )
    assert [records[3].error, records[5].error] == ["crash", '{"status" 503}']


def test_nil_and_the_empty_vector_differ(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "{:type :invoke :f :txn :process 0 :value [[:r 1 nil]]}{:type :ok :f :txn :process 0 :value [[:r 1 []]]}",
    )
    assert [op.value for op in read_any(path)] == [[["r", 1, None]], [["r", 1, []]]]


def test_independent_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "{:type :invoke :f :read :process 0 :value [3 nil]}{:type :info :f :kill :process :nemesis :value [1 2]}"
        "{:type :ok :f :read :process 0 :value [3 7]}",
    )
    assert [(op.key, op.value) for op in read_any(path, independent=True)] == [(3, None), (None, [1, 2]), (3, 7)]
    assert [(op.key, op.value) for op in read_any(path)] == [(None, [3, None]), (None, [1, 2]), (None, [3, 7])]


def test_jepsen_log(tmp_path: Path) -> None:
    """Noise is skipped; a reason in place of a value is an error; a compare that failed is an observation."""
    path = written(tmp_path, LOG)
    assert detect_format(path) == "jepsen-log"
    history = read_any(path)
    assert [(op.process, op.type, op.f, op.value, op.error, op.extra) for op in history] == [
        (0, "invoke", "read", None, None, None),
        (NEMESIS, "info", "start", None, None, None),
        (1, "invoke", "cas", [0, 1], None, None),
        (1, "fail", "cas", [0, 1], None, {"observed": True}),
        (2, "invoke", "write", 4, None, None),
        (0, "fail", "read", None, "timed-out", None),
        (2, "info", "write", 4, "timed-out", None),
        (1, "invoke", "write", 2, None, None),
        (1, "info", "write", 2, "java.net.ConnectException: Connection refused", None),
    ]
    assert [op.index for op in history] == [op.time_ns for op in history] == list(range(9))


def test_jepsen_log_with_spaces_for_tabs(tmp_path: Path) -> None:
    path = written(tmp_path, LOG.rsplit("INFO", 1)[0].expandtabs())
    assert list(read_any(path)) == list(read_any(written(tmp_path, LOG.rsplit("INFO", 1)[0], "tabs")))


@pytest.mark.parametrize("format", ["edn", "jepsen-log", "jsonl"])
def test_readings_of_failed_cas(tmp_path: Path, format: FormatName) -> None:
    """Jepsen's EDN says that it failed, not why; the other two say that the state was another."""
    text = {
        "edn": "{:process 0 :type :invoke :f :cas :value [0 1]}{:process 0 :type :fail :f :cas :value [0 1]}",
        "jepsen-log": "INFO jepsen.util - 0\t:invoke\t:cas\t[0 1]\nINFO jepsen.util - 0\t:fail\t:cas\t[0 1]\n",
        "jsonl": '{"index":0,"process":0,"f":"cas","value":[0,1]}\n'
        '{"index":1,"process":0,"type":"fail","f":"cas","value":[0,1],"extra":{"observed":true}}\n',
    }[format]
    path = written(tmp_path, text)
    assert read_any(path)[1].extra == (None if format == "edn" else {"observed": True})
    assert read_any(path, drop_failed_cas=False)[1].extra == {"observed": True}
    dropped = read_any(path, drop_failed_cas=True)
    assert dropped[1].extra is None
    assert dropped[1].value == [0, 1]


def test_a_cas_that_failed_for_another_reason_observed_nothing(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "{:process 0 :type :invoke :f :cas :value [0 1]}{:process 0 :type :fail :f :cas :value [0 1] :error :refused}"
        "{:process 1 :type :invoke :f :cas :value [0 1]}{:process 1 :type :fail :f :cas :value :timed-out}",
    )
    assert [op.extra for op in read_any(path, drop_failed_cas=False)] == [None] * 4


def test_a_cas_that_says_that_its_compare_failed(tmp_path: Path) -> None:
    text = "{:process 0 :type :invoke :f :cas :value [0 1]}{:process 0 :type :fail :f :cas :error :did-not-succeed}"
    assert read_any(written(tmp_path, text))[1].extra == {"observed": True}


def test_porcupine_kv(tmp_path: Path) -> None:
    path = written(tmp_path, KV)
    assert detect_format(path) == "porcupine-kv"
    assert [(op.process, op.type, op.f, op.key, op.value) for op in read_any(path)] == [
        (0, "invoke", "put", "a", "x"),
        (0, "ok", "put", "a", "x"),
        (1, "invoke", "get", "a", None),
        (1, "ok", "get", "a", ""),
    ]


def test_jsonl_and_run_directories(tmp_path: Path) -> None:
    write_jsonl(RECORDS, tmp_path / "history.jsonl")
    assert detect_format(tmp_path / "history.jsonl") == "jsonl"
    assert list(read_any(tmp_path)) == list(read_any(str(tmp_path / "history.jsonl"))) == RECORDS


def test_a_torn_last_line_of_ours_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, '{"index":0,"process":0,"f":"read"}\n{"ind')
    history = read_any(path, drop_failed_cas=True)
    assert isinstance(history, History)
    assert (len(history), history.torn_bytes) == (1, 5)


def test_formats_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no format 'xml'; choose one of auto, jsonl"):
        read_any(written(tmp_path, EDN_LINES), "xml")  # type: ignore[arg-type]


GZIP = gzip.compress(EDN_LINES.encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "format", "words"),
    [
        (b"", "auto", ["is empty"]),
        (b"  \n", "auto", ["is empty"]),
        (GZIP, "auto", ["gzip", "gunzip -k"]),
        (b"hello, world\n", "auto", ["byte 0", "'hello, world", "--format"]),
        (b"[1,2,2,4,0,4,0]\n", "auto", ["no known history begins with"]),
        (b"{:type :ok}\n{:type :okay}", "edn", [":2: ", "expected a map with a :type", "--format"]),
        (b"[{:type :ok :process 0}\n 5]", "edn", ["item 1: expected a map, found 5;"]),
        (b":key", "edn", ['expected maps, found "key"']),
        (b"[]", "edn", ["holds no operations"]),
        (b"{:type :ok :process -1}", "edn", [":1: ", ":process", "-1"]),
        (b"{:type :ok :process :worker}", "edn", [":1: ", "'worker'"]),
        (b"{:type :ok :process 1 :time 1.5}", "edn", [":time", "1.5"]),
        (b"{:type :ok :process 1 :value [}", "edn", [":1: ", "'}' where ']' should close '['"]),
        (b"{:type :ok\n :value \xff}", "edn", ["byte 19", "not UTF-8"]),
        (b"{:type :ok\n :process", "edn", [":1: ", "the file is cut off"]),
        (
            KV.replace(":put", ":cas").encode(),
            "porcupine-kv",
            ["record 0", ":get, :put or :append", ":cas", "--format edn"],
        ),
        (EDN_LINES.encode(), "porcupine-kv", ["record 0", "key None"]),
        (b"nothing here\n", "jepsen-log", ["no line holds an operation"]),
        (b"\nINFO jepsen.util - 3\t:invoke\t:read\n", "jepsen-log", [":2: ", "expected PROCESS, :TYPE, :F and VALUE"]),
        (b"INFO jepsen.util - 3\t:invoke\t:cas\t[1 2\n", "jepsen-log", [":1: ", "cut off"]),
        (b"INFO jepsen.util - 3 :invoke :cas 1 2 3\n", "jepsen-log", [":1: ", "at most an error"]),
        (b"{'a': 1}\n", "jsonl", [":1: ", "not a record"]),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes, format: FormatName, words: list[str]) -> None:
    path = tmp_path / "strange"
    path.write_bytes(content)
    with pytest.raises(HistoryError) as caught:
        read_any(path, format)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_files_and_folders_that_are_not_there(tmp_path: Path) -> None:
    formats: list[FormatName] = ["auto", "edn", "jepsen-log", "jsonl"]
    for name in formats:
        with pytest.raises(HistoryError, match=r"cannot read .*missing.edn: No such file"):
            read_any(tmp_path / "missing.edn", name)
    with pytest.raises(HistoryError, match=r"holds none of history\.jsonl"):
        read_any(tmp_path)
