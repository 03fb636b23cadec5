"""The archive: what members told, put together from its records."""

from __future__ import annotations

from splitvote.harness.archive import Archive, ArchiveRecord, Disagreement, Span, StoreEvent, archive_of


def put(key: str, revision: int, value: str = "v") -> StoreEvent:
    return StoreEvent("put", key, revision, value, revision, 1)


def test_what_one_member_told_is_known_of_all_who_told_the_range() -> None:
    archive = archive_of(
        [
            ArchiveRecord("n1", 10, 1, 3, {2: (put("a/x", 2),), 3: (put("b/y", 3),)}),
            ArchiveRecord("n2", 20, 1, 3),
        ]
    )
    assert archive.newest == 3
    assert [event.key for event in archive.events()] == ["a/x", "b/y"]
    assert [event.key for event in archive.events("b/")] == ["b/y"]
    assert archive.spans == {"n1": (Span(1, 3, 10),), "n2": (Span(1, 3, 20),)}
    assert not archive.disagreements


def test_a_member_that_tells_a_revision_differently_is_named_with_both_accounts() -> None:
    theirs = (put("x", 2, "other"),)
    archive = archive_of(
        [ArchiveRecord("n1", 10, 1, 2, {2: (put("x", 2),)}), ArchiveRecord("n2", 20, 1, 2, {2: theirs})]
    )
    assert archive.disagreements == (Disagreement(2, "n2", theirs, "n1", (put("x", 2),)),)


def test_a_member_that_tells_nothing_of_a_revision_disagrees_with_one_that_does() -> None:
    archive = archive_of([ArchiveRecord("n1", 1, 1, 2, {2: (put("x", 2),)}), ArchiveRecord("n2", 2, 1, 2, {2: ()})])
    assert [disagreement.tells for disagreement in archive.disagreements] == [()]


def test_a_hole_tells_nothing() -> None:
    archive = archive_of(
        [ArchiveRecord("n1", 1, 1, 4, is_hole=True), ArchiveRecord("n1", 2, 5, 6, {5: (put("x", 5),)})]
    )
    assert archive.untold(1, 6) == [(1, 4)]
    assert archive.untold(5, 6) == []
    assert archive.untold(5, 9) == [(7, 9)]
    assert Archive().untold(1, 2) == [(1, 2)]


def test_what_was_there_before_the_run_is_neither_told_nor_missing() -> None:
    """However large a store of somebody else's is, only what the run made is looked at."""
    before = [ArchiveRecord(node, 1, 1, 10**12, is_before=True) for node in ("n1", "n2")]
    archive = archive_of(
        [*before, ArchiveRecord("n1", 2, 10**12 + 1, 10**12 + 2, {10**12 + 2: (put("x", 10**12 + 2),)})]
    )
    assert archive.is_shared
    assert archive.revisions == (10**12 + 1, 10**12 + 2)
    assert archive.untold(2, archive.newest) == []
    assert archive.untold(2, archive.newest + 1) == [(archive.newest + 1, archive.newest + 1)]


def test_a_store_of_the_runs_own_is_not_shared() -> None:
    assert not archive_of([ArchiveRecord("n1", 1, 1, 1)]).is_shared
