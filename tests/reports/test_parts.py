"""The parts of the report, each on the smallest case that shows what it must say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.op import NEMESIS, Op, Operation
from splitvote.harness.recording import ClusterSample, FaultRecord, RunConfig
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.reports.anomalies import Cards
from splitvote.reports.availability import recoveries, shares, unavailable_windows
from splitvote.reports.diagram import space_time
from splitvote.reports.embedding import lanes_of, record_json, trim
from splitvote.reports.nodelogs import LogSearch, parse_line, tails, wall_anchor_ns
from splitvote.reports.spans import FaultSpan, cut_in_words, fault_spans
from splitvote.reports.stored import StoredRun, pair_leniently
from splitvote.reports.wording import answered, duration, figure, plain, share, shown

S = 1_000_000_000


def operation(index: int, start_s: float, end_s: float | None, type: Any = "ok", **fields: Any) -> Operation:
    """An operation by process ``index`` (unless given) from start to end; still open without an end."""
    made = {"process": index, "f": "put", "key": "a", "value": index} | fields
    invoke = Op(index=index, time_ns=int(start_s * S), **made)
    if end_s is None:
        return Operation(invoke, None)
    return Operation(invoke, Op(index=index + 1, time_ns=int(end_s * S), type=type, **made))


def fault(id: int, phase: Any, time_s: float, **fields: Any) -> FaultRecord:
    return FaultRecord(id, "kill", "kill", phase, int(time_s * S), targets=("n1",), **fields)


class TestSpans:
    def test_a_journal_folds_into_one_span_a_fault(self) -> None:
        """Start, effect, healing and end with their proofs; an unproven one is told apart."""
        journal = [
            fault(1, "starting", 1),
            fault(1, "active", 1.5, proof="gone", observed={"pid": None}),
            fault(2, "starting", 2),
            fault(1, "healing", 3),
            fault(1, "healed", 4, proof="answers", observed={"recovery_s": 0.5}),
            fault(2, "unproven", 2.5, error="it still answers"),
        ]
        first, second = fault_spans(journal)
        assert (first.start_ns, first.active_ns, first.healing_ns, first.end_ns) == (S, 1.5 * S, 3 * S, 4 * S)
        assert (first.proof, first.heal_proof, first.proven, first.heal_proven) == ("gone", "answers", True, True)
        assert not second.proven
        assert second.end_ns is None
        assert second.errors == ["it still answers"]
        assert second.overlaps(100 * S, 200 * S), "a fault without an end lasts"

    def test_without_a_journal_the_nemesis_speaks(self) -> None:
        """Jepsen's start- and stop- delimit a fault; any other action lasts from its first record to its second."""
        times = [("start-cut", 1), ("start-cut", 2), ("stop-cut", 5), ("stop-cut", 6), ("compact", 7), ("compact", 8)]
        records = [Op(time_ns=at * S, process=NEMESIS, type="info", f=f, value=["n1"]) for f, at in times]
        cut, compact = fault_spans([], records)
        assert (cut.fault, cut.start_ns, cut.end_ns, cut.targets) == ("cut", S, 6 * S, ("n1",))
        assert (compact.fault, compact.start_ns, compact.end_ns) == ("compact", 7 * S, 8 * S)
        assert not cut.proven

    @pytest.mark.parametrize(
        ("cut", "words"),
        [
            ([("n3", "n1"), ("n3", "n2")], "n3 \u2192 n1, n2"),
            ([("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")], "n1 | n2, n3"),
            ([("n1", "n2"), ("n2", "n3"), ("n3", "n1")], "3 links"),
            ([("n1", "n3"), ("n3", "n1"), ("n1", "n4"), ("n4", "n1"), ("n2", "n4"), ("n4", "n2")], "6 links"),
        ],
    )
    def test_cuts_say_who_was_cut_off_from_whom(self, cut: list[tuple[str, str]], words: str) -> None:
        """One way, both ways, and shapes that only their number describes."""
        assert cut_in_words(cut) == words

    def test_a_kind_within_its_family_is_named_once(self) -> None:
        """Families are rows of the timeline; sentences have both."""
        span = FaultSpan(1, "kill", "kill:majority", ("n1", "n2"), 0)
        assert (span.label, span.title) == ("majority n1, n2", "kill majority n1, n2")
        assert FaultSpan(1, "pause", "pause", ("n1",), 0).title == "pause n1"


class TestAvailability:
    span = FaultSpan(3, "kill", "kill", ("n1",), 2 * S, healing_ns=5 * S, end_ns=6 * S)

    def test_a_window_needs_a_second_without_success_and_someone_who_tried(self) -> None:
        """Idle time is no window; a failed attempt within makes it one."""
        idle = [operation(0, 0.0, 0.1), operation(2, 9.0, 9.1)]
        assert unavailable_windows(idle, [], 10 * S) == [], "nobody tried between"
        tried = [idle[0], operation(4, 3.0, 3.5, "fail"), idle[1]]
        (window,) = unavailable_windows(tried, [self.span], 10 * S)
        assert (window.start_ns, window.end_ns) == (3.0 * S, 9.1 * S)
        assert window.faults == (self.span,)

    def test_shares_count_by_invocation(self) -> None:
        """In a fault is from its start to the end of its healing."""
        operations = [
            operation(0, 1.9, 2.5),
            operation(2, 2.0, 3.0, "info"),
            operation(4, 6.0, 6.1),
            operation(6, 6.1, 7),
        ]
        outside, inside, by_kill = shares(operations, [self.span], 10 * S)
        assert outside.outcomes == Counter(ok=2)
        assert inside.outcomes == by_kill.outcomes == Counter(ok=1, info=1)

    def test_recovery_is_the_nemesis_own_figure_or_the_first_success_after_healing_began(self) -> None:
        """Operations invoked before healing do not count, and of those after it the first answered does."""
        operations = [operation(0, 4.9, 5.1), operation(2, 5.2, 5.9), operation(4, 5.3, 5.4)]
        assert recoveries(operations, [self.span])[3].time_ns == pytest.approx(0.4 * S)
        measured = FaultSpan(4, "kill", "kill", (), S, healing_ns=S, end_ns=S, heal_observed={"recovery_s": 0.25})
        assert recoveries([], [measured])[4].time_ns == 0.25 * S
        assert recoveries([], [self.span]) == {}


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
        assert card.facts == (("longest prefix", 40),)

    def test_disagreement_leads_to_the_operations_that_wrote_the_revisions(self) -> None:
        """Members' states name mod_revisions; the odd member's cell is marked."""
        operations = [operation(0, 1, 2, revision=7), operation(2, 3, 4, revision=8)]
        state = {"k": {"n1": ["v", 8, 1, 8], "n2": ["v", 8, 1, 8], "n3": None}}
        card = self.cards(operations, Anomaly("member agreement: keys", "differ", details={"keys": state}))
        assert card.related
        assert [found.invoke.index for found in card.operations] == [2]
        assert card.tables[0].columns == ("n1", "n2", "n3")
        assert card.tables[0].odd == {(0, 2)}


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
