"""The parts of the report, each on the smallest case that shows what it must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.op import NEMESIS, Op, Operation
from splitvote.harness.recording import ClusterSample, RunConfig
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.harness.spans import FaultSpan
from splitvote.reports.anomalies import Cards, by_kind, title_of
from splitvote.reports.diagram import space_time
from splitvote.reports.embedding import lanes_of, record_json, trim
from splitvote.reports.nodelogs import LogSearch, parse_line, tails, wall_anchor_ns
from splitvote.reports.stored import StoredRun, pair_leniently
from splitvote.reports.wording import abridged, answered, duration, figure, plain, share, shown

S = 1_000_000_000


def operation(index: int, start_s: float, end_s: float | None, type: Any = "ok", **fields: Any) -> Operation:
    """An operation by process ``index`` (unless given) from start to end; still open without an end."""
    made = {"process": index, "f": "put", "key": "a", "value": index} | fields
    invoke = Op(index=index, time_ns=int(start_s * S), **made)
    if end_s is None:
        return Operation(invoke, None)
    return Operation(invoke, Op(index=index + 1, time_ns=int(end_s * S), type=type, **made))


class TestAnomalies:
    def cards(self, operations: list[Operation], anomaly: Anomaly, spans: list[FaultSpan] | None = None) -> Any:
        logs = LogSearch(StoredRun(Path()))
        cards, left_out = Cards(operations, spans or [], logs).make([Result("c", Verdict.INVALID, None, (anomaly,))])
        assert left_out == 0
        return cards[0]

    def test_records_become_whole_operations_with_their_fault(self) -> None:
        """A checker may name a completion only; the card has the operation, its time and the fault then."""
        operations = [operation(0, 1, 2), operation(2, 2.5, 3)]
        span = FaultSpan(9, "kill", "kill", ("n1",), 2 * S, end_ns=4 * S)
        assert operations[1].completion is not None
        card = self.cards(operations, Anomaly("G1c", "a cycle", (operations[1].completion,)), [span])
        assert [found.invoke.index for found in card.operations] == [2]
        assert (card.start_ns, card.end_ns) == (2.5 * S, 3 * S)
        assert card.faults == (span,)

    def test_a_prefix_is_numbered_and_what_fits_nowhere_is_outlined(self) -> None:
        """Places count from the whole prefix's length; candidates are drawn with it, not in the core."""
        operations = [operation(index, index, index + 0.5) for index in (0, 2, 4, 6)]
        details = {
            "longest_prefix": 40,
            "prefix_tail": [{"invoke": 0}, {"invoke": 2}],
            "cannot_be_placed": {"invoke": 4},
            "candidates": [{"invoke": 6}],
        }
        core = (operations[1].invoke, operations[2].invoke)
        card = self.cards(operations, Anomaly("nonlinearizable", "no order", core, details=details))
        assert card.order == {0: 39, 2: 40}
        roles = {bar.index: (bar.role, bar.order) for bar in card.diagram.bars}
        assert roles == {2: ("placed", 40), 4: ("culprit", None)}
        assert {bar.index for bar in card.before.bars} == {0, 2, 4, 6}
        assert card.details.facts == (("longest prefix", 40),)

    def test_disagreement_leads_to_the_operations_that_wrote_the_revisions(self) -> None:
        """Members' states name mod_revisions; the odd member's cell is marked."""
        operations = [operation(0, 1, 2, revision=7), operation(2, 3, 4, revision=8)]
        state = {"k": {"n1": ["v", 8, 1, 8], "n2": ["v", 8, 1, 8], "n3": None}}
        card = self.cards(operations, Anomaly("member agreement: keys", "differ", details={"keys": state}))
        assert card.related
        assert [found.invoke.index for found in card.operations] == [2]
        assert card.details.tables[0].columns == ("n1", "n2", "n3")
        assert card.details.tables[0].odd == {(0, 2)}


class TestDiagram:
    def test_real_time_order_is_kept_exactly(self) -> None:
        """Whatever the distances, every beginning and end is drawn in the order it happened, labels fitting."""
        operations = [operation(0, 0.0, 5.0), operation(2, 0.000001, 0.000002), operation(4, 4.9, 5.1)]
        diagram = space_time(operations)
        assert diagram is not None
        ends = {(bar.index, half): bar.x + half * bar.width for bar in diagram.bars for half in (0, 1)}
        wanted = [(0, 0), (2, 0), (2, 1), (4, 0), (0, 1), (4, 1)]
        assert sorted(ends, key=ends.__getitem__) == wanted
        assert all(bar.width > 6 * len(bar.label) for bar in diagram.bars)

    def test_what_began_long_before_stands_at_the_left_edge(self) -> None:
        """Its time is in its label, and the rest keeps its order and the room."""
        diagram = space_time([operation(0, 1, 2, "info"), operation(2, 500, 501)], since_before={0})
        assert diagram is not None
        old, late = diagram.bars
        assert old.label.startswith("since 1.00 s")
        assert old.x < late.x < old.x + old.width

    def test_open_and_info_operations_have_a_tail(self) -> None:
        """They may take effect at any later time."""
        diagram = space_time([operation(0, 1, None), operation(2, 1, 2, "info"), operation(4, 1, 2)])
        assert diagram is not None
        assert [bar.tail is not None for bar in diagram.bars] == [True, True, False]
        assert space_time([]) is None


class TestLanes:
    def test_a_thread_keeps_its_lane_when_info_renumbers_its_process(self) -> None:
        operations = [operation(0, 0, 1, process=3), operation(2, 2, 3, process=13)]
        assert lanes_of(operations, threads=10)[0] == [3, 3]

    def test_without_threads_no_two_operations_of_a_lane_overlap(self) -> None:
        operations = [operation(0, 0, 5, process=1), operation(2, 1, None, process=2), operation(4, 6, 7, process=3)]
        lanes, names = lanes_of(operations, threads=0)
        assert lanes[0] != lanes[1]
        assert lanes[2] == lanes[0], "process 1 had ended"
        assert len(names) == 2


class TestLogs:
    def test_lines_are_placed_by_the_samplers_anchors(self, tmp_path: Path) -> None:
        """UTC as zap writes it, an offset and capnslog; the graver lines around a moment come first."""
        log = tmp_path / "n1.log"
        log.write_bytes(
            b'{"level":"info","ts":"2024-05-01T12:00:01.250Z","msg":"calm"}\n'
            b'{"level":"error","ts":"2024-05-01T14:00:01.500+0200","msg":"grave"}\n'
            b"2024-05-01 12:00:01.750000 W | etcdserver: slow\n"
            b"no time \xff\n"
        )
        noon_ns = 1_714_564_800 * S
        sample = ClusterSample(10 * S, {}, wall_ns=noon_ns + 10 * S)
        run = StoredRun(tmp_path, samples=(sample,), logs={"n1": log})
        assert wall_anchor_ns(run) == noon_ns
        (tail,) = tails(run)
        assert [(line.time_ns, line.level) for line in tail.lines] == [
            (1.25 * S, "info"),
            (1.5 * S, "error"),
            (1.75 * S, "warn"),
            (None, "info"),
        ]
        assert tail.lines[3].text.endswith("\ufffd")
        (found,) = LogSearch(run).around(int(1.2 * S), int(1.3 * S), most=1)
        assert "grave" in found.text

    def test_without_anchors_the_start_in_config_serves(self, tmp_path: Path) -> None:
        config = RunConfig("register", 1, "local", ("n1",), "0", "2024-05-01T12:00:00+00:00")
        assert wall_anchor_ns(StoredRun(tmp_path, config=config)) == 1_714_564_800 * S
        assert wall_anchor_ns(StoredRun(tmp_path)) is None

    def test_json_lines_are_told_message_first(self) -> None:
        """Time and level stand beside the line already."""
        line = b'{"level":"warn","ts":"2024-05-01T12:00:00Z","caller":"a/b.go:1","msg":"slow","took":"2s","n":3}'
        assert parse_line("n1", line, None).text == "slow  took=2s  n=3  (a/b.go:1)"

    def test_a_go_panic_is_fatal(self) -> None:
        assert parse_line("n1", b"panic: runtime error: index out of range\n", None).level == "fatal"


class TestPairing:
    def test_nothing_raises_and_nothing_is_lost(self) -> None:
        """An invocation over an open one leaves that open; an answer to nothing stands alone; events are no answers."""
        records = [
            Op(0, 0, 1, "invoke", "a"),
            Op(1, 1, 1, "event", "a", of=0),
            Op(2, 2, 1, "invoke", "b"),
            Op(3, 3, 1, "ok", "b"),
            Op(4, 4, 1, "ok", "c"),
            Op(5, 5, NEMESIS, "info", "kill"),
        ]
        first, second, third = pair_leniently(records)
        assert first.completion is None
        assert (second.invoke.index, second.completion and second.completion.index) == (2, 3)
        assert third.invoke is third.completion


class TestWording:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a\u202eb", '"a\\u202eb"'),
            ("tab\tline\n", '"tab\\tline\\n"'),
            ([1, "x"], '[1,"x"]'),
            (3.0, "3"),
            (None, "null"),
        ],
    )
    def test_values_are_shown_with_nothing_unseen_in_them(self, value: Any, text: str) -> None:
        assert shown(value) == text

    def test_long_values_say_how_long_they_are(self) -> None:
        assert shown("x" * 5000, 10) == '"xxxxxxxxxx"\u2026 (5,000 characters)'
        assert plain("x" * 5000, 3) == "xxx\u2026 (5,000 characters)"

    def test_amounts(self) -> None:
        """Units read well, shares are not rounded up to everything, flat mappings become words."""
        assert [duration(ns) for ns in (900, 2_500_000, 4.2e9, 125e9)] == ["1 µs", "2.5 ms", "4.20 s", "2 min 5 s"]
        assert share(99_999, 100_000) == "99.9 %"
        assert share(0, 0) == "\u2013"
        assert figure({"ok": 3, "fail": 1}) == "ok 3, fail 1"

    def test_answers_say_no_more_than_they_must(self) -> None:
        """A write answered by its own value is ok; a read of nothing is null; the rest is said."""
        read = operation(0, 1, 2, f="read", value=None)
        assert answered(operation(0, 1, 2)) == "ok"
        assert answered(read) == "\u2192 null"
        assert answered(operation(0, 1, 2, "fail")) == "failed"
        assert answered(operation(0, 1, 2, "info")) == "unknown"
        assert answered(operation(0, 1, None)) == "never answered"


class TestTrimming:
    def test_long_parts_are_cut_where_they_are(self) -> None:
        """A record keeps its shape; only what is long in it is cut."""
        record = Op(0, 0, 1, "ok", "put", value={"big": "x" * 100_000, "small": 1})
        cut = record_json(record)
        assert len(cut) < 2_000
        assert b"100,000 characters" in cut
        assert b'"small":1' in cut

    def test_many_items_and_deep_nesting_end(self) -> None:
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        assert "items" in str(trim(deep))
        assert len(trim(list(range(1000)))) == 65


class TestKinds:
    def test_a_flood_of_one_name_hides_no_other(self) -> None:
        """The first two of a name in full, twenty in a line each, the rest counted; every name has its card."""
        operations = [operation(index, index, index + 0.5) for index in range(0, 80, 2)]
        flood = tuple(Anomaly("kv: effect", f"effect {op.invoke.index}", (op.invoke,)) for op in operations)
        lost = Anomaly("kv: lost write", "it is gone", (operations[0].invoke,))
        result = Result("kv", Verdict.INVALID, None, (*flood, lost))
        cards, left_out = Cards(operations, [], LogSearch(StoredRun(Path()))).make([result])
        graver, rest = by_kind(cards)
        assert [card.title for card in graver.full] == ["Lost write"]
        assert (len(rest.full), len(rest.brief), left_out) == (2, 20, 18)
        assert all(card.diagram is None for card in rest.brief)

    def test_what_nobody_knows_stands_before_what_is_known_or_expected(self) -> None:
        """Within one gravity: new, then known; all that was expected last."""
        known = Anomaly("nonlinearizable", "known", details={"known_issue": "1: it"})
        new = Anomaly("nonlinearizable", "new")
        graver = Anomaly("store history: disagreement", "expected")
        results = [
            Result("c", Verdict.INVALID, None, (known, new)),
            Result("d", Verdict.INVALID, None, (graver,), expected="unsafe"),
        ]
        cards, _ = Cards([], [], LogSearch(StoredRun(Path()))).make(results)
        assert [card.story for card in cards] == ["new", "known", "expected"]
        assert [card.known_issue for card in cards] == [None, "1: it", None]

    @pytest.mark.parametrize(
        ("name", "title"),
        [
            ("G-single-realtime", "Read skew (G-single-realtime)"),
            ("G1c", "Circular information flow (G1c)"),
            ("watch: bookmarkable", "Bookmarkable"),
            ("liveness", "The cluster did not recover"),
        ],
    )
    def test_titles_are_plain_words_with_the_fields_name(self, name: str, title: str) -> None:
        """Adya's names keep their name in brackets."""
        assert title_of(name) == title


class TestStates:
    def test_what_is_said_of_an_operation_has_the_state_before_and_after_it(self) -> None:
        """In the order's numbering, and for the one that fits nowhere the state that it would find."""
        operations = [operation(index, index, index + 0.5) for index in (0, 2, 4)]
        diagram = space_time(operations, order={0: 7, 2: 8}, culprits={4}, states={0: "a", 2: "b"})
        assert diagram is not None
        first, second, culprit = (dict(bar.facts) for bar in diagram.bars)
        assert first["state after it"] == "a"
        assert "state before it" not in first
        assert (second["state before it"], second["state after it"]) == ("a", "b")
        assert culprit["state it would find"] == "b, and so it fits nowhere"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("read [1, 2, 3, 4, 5, 6, 7, 8, 9] of 'x'", "read [1, … 6 more …, 8, 9] of 'x'"),
        ("[1,2,3,4,5,6,7,8,9]", "[1, … 6 more …, 8, 9]"),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ('["a", "b", "c", "d", "e", "f", "g", "h", "i"]', '["a", "b", "c", "d", "e", "f", "g", "h", "i"]'),
        ("[[1, 2], [3, 4]]", "[[1, 2], [3, 4]]"),
    ],
)
def test_long_lists_keep_their_ends(text: str, short: str) -> None:
    """The last elements are what a list-append story is about; quoted texts are left alone."""
    assert abridged(text) == short
