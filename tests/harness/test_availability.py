"""Faults as spans of time, and how available the system was in and out of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from splitvote.harness.availability import recoveries, shares, unavailable_windows
from splitvote.harness.op import NEMESIS, Op, Operation
from splitvote.harness.recording import FaultRecord
from splitvote.harness.spans import FaultSpan, cut_in_words, fault_spans

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
