"""Views of a workload's own: what was recorded becomes bars and lines in time, and what is odd is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splitvote.harness.archive import ArchiveRecord, StoreEvent
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import ClusterSample, MemberSample, RunConfig
from splitvote.harness.result import Result, Verdict
from splitvote.harness.store import Results
from splitvote.reports.stored import StoredRun
from splitvote.reports.views import Bar, BarsView, LinesView, Row, views_of
from splitvote.reports.views.elections import election_views
from splitvote.reports.views.leases import lease_views
from splitvote.reports.views.locks import lock_views
from splitvote.reports.views.revisions import RevisionClock
from splitvote.reports.views.shapes import stacked
from splitvote.reports.views.watches import watch_views

S = 1_000_000_000


def operation(
    index: int, f: str, start_s: float, end_s: float | None, answer: Any = None, type_: Any = "ok", **more: Any
) -> Operation:
    invoke = Op(index=index, time_ns=int(start_s * S), process=more.pop("process", 0), f=f, key=more.pop("key", None))
    if end_s is None:
        return Operation(invoke, None)
    done = invoke.completed(type_, value=answer, **more)
    return Operation(invoke, Op(**{**_fields(done), "index": index + 1, "time_ns": int(end_s * S)}))


def _fields(op: Op) -> dict[str, Any]:
    return {name: getattr(op, name) for name in op.__struct_fields__}


def event(time_s: float, value: Any, **more: Any) -> Op:
    return Op(time_ns=int(time_s * S), type="event", value=value, **more)


def clock(*heard: tuple[float, int]) -> RevisionClock:
    return RevisionClock([event(time_s, None, revision=revision) for time_s, revision in heard], [])


class TestRevisionClock:
    def test_a_revision_exists_from_when_anybody_heard_of_one_as_new(self) -> None:
        """Later and older answers say nothing more; what nobody heard of has no moment."""
        found = clock((1.0, 5), (2.0, 3), (3.0, 9))
        assert [found.moment_ns(revision) for revision in (2, 5, 6, 9, 10)] == [1 * S, 1 * S, 3 * S, 3 * S, None]

    def test_samples_of_members_count_too(self) -> None:
        """A quiet client learns of revisions late; the sampler does not."""
        found = RevisionClock(
            [], [ClusterSample(S, {"n1": MemberSample(revision=4), "n2": MemberSample(error="down")})]
        )
        assert found.moment_ns(4) == S


def test_bars_of_a_row_never_overlap() -> None:
    """What overlaps goes to a row below; an open bar takes its row for good."""
    bars = [Bar(0, 5, "a", "truth"), Bar(3, None, "b", "truth"), Bar(5, 6, "c", "truth"), Bar(9, 10, "d", "truth")]
    rows = stacked("k", bars)
    assert [[bar.text for bar in row.bars] for row in rows] == [["a", "c", "d"], ["b"]]
    assert [row.name for row in rows] == ["k", ""]


HOLDERS = [
    "lock", "process", "api", "lease", "created", "granted", "ended",
    "believed_from_s", "believed_until_s", "overlap_s",
]  # fmt: skip


class TestLocks:
    def test_holders_are_placed_by_revision_and_beliefs_by_time(self) -> None:
        """The time in which another believed the same is red."""
        rows = [["k", 1, "client", "a", 4, 5, 8, 1.0, 4.0, 0.0], ["k", 2, "server", "b", 6, 9, None, 3.0, 6.0, 1.0]]
        table = {"holders": {"columns": HOLDERS, "rows": rows, "of": 2}}
        (view,) = lock_views(table, clock((1.0, 5), (2.5, 8), (2.6, 9)))
        assert isinstance(view, BarsView)
        held, *believed = view.rows
        assert [(bar.from_ms, bar.to_ms, bar.text) for bar in held.bars] == [
            (1000.0, 2500.0, "process 1"),
            (2600.0, None, "process 2"),
        ]
        assert [(bar.from_ms, bar.to_ms, bar.tone) for row in believed for bar in row.bars] == [
            (1000.0, 4000.0, "belief"),
            (4000.0, 6000.0, "belief"),
            (3000.0, 4000.0, "bad"),
        ]

    def test_a_table_of_another_shape_is_no_table(self) -> None:
        """Results from elsewhere never break a page."""
        for table in ({}, {"holders": 3}, {"holders": {"columns": ["lock"], "rows": [[1, 2], "x"]}}, {"holders": {}}):
            assert lock_views(table, clock()) == []


class TestElections:
    def test_reigns_and_beliefs_stand_beside_each_other(self) -> None:
        """A belief lasts from the campaign's answer to the own resignation, a refusal, or the end of the process."""
        operations = [
            operation(0, "campaign", 1, 2, process=1, key="e", revision=5),
            operation(2, "write", 3, 4, process=1, key="e", type_="fail", error="deposed (session lost)"),
            operation(4, "campaign", 2, 5, process=2, key="e", revision=9),
            operation(6, "resign", 7, 8, process=2, key="e"),
            operation(8, "campaign", 8, 9, process=3, key="e", revision=12),
        ]
        columns = ["election", "first", "end", "key", "lease", "created", "deleted", "process", "api", "value"]
        rows = [["e", 5, 8, "e/1", "1", 5, 8, 1, "client", "v"], ["e", 9, None, "e/2", "2", 9, None, 2, "client", "w"]]
        evidence = {"reigns": {"columns": columns, "rows": rows, "of": 2}}
        (view,) = election_views(operations, evidence, clock((2.0, 5), (4.5, 8), (5.0, 9)), 20 * S)
        assert isinstance(view, BarsView)
        led, believed = view.rows
        assert [(bar.from_ms, bar.to_ms) for bar in led.bars] == [(2000, 4500), (5000, None)]
        assert [(bar.text, bar.from_ms, bar.to_ms) for bar in believed.bars] == [
            ("process 1", 2000, 4000),
            ("process 2", 5000, 7000),
            ("process 3", 9000, 20_000),
        ]


class TestLeases:
    def test_a_lease_lasts_as_far_as_its_last_renewal_reaches(self) -> None:
        """Renewals by a stream are paired with their requests; what was seen gone ends the bar."""
        stream = operation(4, "stream", 2, 6, key=7)
        events = {4: [event(3, ["ask"]), event(3.1, ["answer", 2]), event(5, ["ask"]), event(5.2, ["answer", 0])]}
        operations = [
            operation(0, "grant", 1, 1.1, 2, key=7),
            operation(2, "keepalive", 2, 2.1, 2, key=7),
            stream,
            operation(6, "ttl", 4.5, 4.6, [-1, 0, []], key=7),
            operation(8, "keepalive", 2, 2.1, 0, key=9),
        ]
        (view,) = lease_views(operations, events)
        assert isinstance(view, BarsView)
        (row,) = view.rows
        assert row.name == "7"
        assert [(bar.from_ms, bar.to_ms, bar.faint) for bar in row.bars] == [(1000, 3000, False), (3000, 4600, True)]
        assert [(mark.at_ms, mark.text) for mark in row.marks] == [
            (2100, "kept alive"),
            (3100, "kept alive"),
            (4600, "found gone"),
        ]

    def test_a_lease_ends_where_its_keys_went(self) -> None:
        """The archive tells it: a key that went on to another lease goes with that, and a second telling is none."""
        puts = (
            StoreEvent("put", "a", 2, lease=7),
            StoreEvent("put", "b", 3, lease=7),
            StoreEvent("put", "c", 4, lease=8),
            StoreEvent("put", "c", 5, lease=7),
        )
        gone = {6: tuple(StoreEvent("delete", key, 6) for key in "abc")}
        told = [
            ArchiveRecord("n1", 2_000_000_000, 1, 5, {event.mod_revision: (event,) for event in puts}),
            ArchiveRecord("n1", 4_500_000_000, 6, 6, gone),
            ArchiveRecord("n2", 5_000_000_000, 1, 6, gone),
        ]
        operations = [operation(0, "grant", 1, 1.1, 4, key=7), operation(2, "grant", 1, 1.1, 4, key=8)]
        (view,) = lease_views(operations, {}, told)
        assert isinstance(view, BarsView)
        assert [row.bars[-1].to_ms for row in view.rows] == [4500, 5000]
        assert [mark.text for row in view.rows for mark in row.marks] == ["keys went"]
        assert "3 of its keys deleted at revision 6" in view.rows[0].marks[0].note

    def test_odd_records_are_left_out(self) -> None:
        """Keys that are no ids, answers of another shape, events of another kind."""
        odd = [
            operation(0, "grant", 1, 2, "soon", key=1),
            operation(2, "grant", 1, 2, 3, key="x"),
            operation(4, "ttl", 1, 2, {}),
        ]
        assert lease_views([*odd, operation(6, "stream", 1, None, key=1)], {6: [event(1, 5), event(1, [])]}) == []


class TestWatches:
    def test_each_watcher_is_a_line_against_the_truth(self) -> None:
        """A new stream begins a new piece; progress counts, a creation does not."""
        watch = operation(0, "watch", 1, 9, process=3)
        told = [
            event(2, ["created", 0, 0], revision=1, stream=1),
            event(3, ["events", 0, False, []], revision=4, stream=1),
            event(4, ["progress", 0], revision=6, stream=1),
            event(6, ["events", 0, False, []], revision=5, stream=2),
            event(7, 12, revision=9, stream=2),
        ]
        (view,) = watch_views([watch], {0: told}, clock((3.0, 4), (3.5, 6)))
        assert isinstance(view, LinesView)
        truth, line = view.lines
        assert truth.pieces == (((3000, 4), (3500, 6)),)
        assert line.pieces == (((3000, 4), (4000, 6)), ((6000, 5),))
        assert line.op == 0


def test_a_run_has_the_views_of_its_workloads() -> None:
    """Of two workloads each sees its own operations and its own checkers' evidence."""
    config = RunConfig("lock+lease", 1, "local", ("n1",), "0", "2024-11-05T02:30:00+00:00")
    rows = [["k", 1, "client", "a", 4, 5, 8, 1.0, 4.0, 0.0]]
    result = Result("lock/lock", Verdict.VALID, evidence={"holders": {"columns": HOLDERS, "rows": rows}})
    run = StoredRun(Path("t/r"), config=config, results=Results(Verdict.VALID, (result,)))
    lease = operation(0, "grant", 1, 2, 5, key=7)
    labelled = Operation(Op(**{**_fields(lease.invoke), "workload": "lease"}), lease.completion)
    other = Operation(Op(**{**_fields(lease.invoke), "workload": "lock", "key": 8}), lease.completion)
    locks, leases = views_of(run, [labelled, other], {})
    assert (locks.title, leases.title) == ("Locks", "Leases")
    assert isinstance(leases, BarsView)
    assert [row.name for row in leases.rows] == ["7"]
    assert views_of(StoredRun(Path("t/r")), [], {}) == []
    assert isinstance(locks, BarsView)
    assert isinstance(locks.rows[0], Row)
