"""When members may have been restarted, as far as a journal of faults can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.checkers.logs import LogPatternChecker
from splitvote.checkers.restarts import FOREVER_NS, Restart, restarts
from splitvote.harness.history import History
from splitvote.harness.recording import FaultPhase, FaultRecord, Recording
from splitvote.harness.result import Budget, Verdict

PHASES: tuple[FaultPhase, ...] = ("starting", "active", "healing", "healed")


def journal(family: str, *, until: int = 4, number: int = 1) -> list[FaultRecord]:
    return [
        FaultRecord(number, family, family, phase, 10 * place, targets=("n2",))
        for place, phase in enumerate(PHASES[:until], 1)
    ]


def test_a_process_may_be_restarted_at_any_moment_of_a_faults_beginning_and_of_its_end() -> None:
    """A member is replaced, or crashes again and again, between two records of its fault."""
    found = restarts(journal("member"))
    assert Restart(10, 20, "n2") in found
    assert Restart(30, 40, "n2") in found
    assert not any(restart.start_ns <= 25 <= restart.end_ns for restart in found)


@pytest.mark.parametrize("until", [1, 3])
def test_what_was_begun_and_never_ended_lasts(until: int) -> None:
    assert restarts(journal("kill", until=until))[-1].end_ns == FOREVER_NS


def test_faults_that_leave_the_process_alone_restart_nothing() -> None:
    assert restarts([*journal("partition"), *journal("pause", number=2)]) == []


FATAL = b'{"level":"fatal","msg":"listener failed","error":"server is stopping"}\n'
LOCAL_ID = (
    b'{"level":"panic","msg":"failed to find local ID in cluster members"}\n'
    b"panic: failed to find local ID in cluster members\n"
)


@pytest.mark.parametrize("words", [FATAL, LOCAL_ID])
@pytest.mark.parametrize(
    ("family", "node", "verdict"),
    [("member", "n2", Verdict.VALID), ("member", "n3", Verdict.INVALID), ("kill", "n2", Verdict.INVALID)],
)
def test_what_a_removed_member_says_at_its_end_is_explained_on_that_node_alone(
    words: bytes, family: str, node: str, verdict: Verdict, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_bytes(words)
    recording = Recording(History(), faults=tuple(journal(family)), logs={node: log})
    assert LogPatternChecker().check(recording, Budget()).verdict is verdict


def test_a_panic_of_another_kind_is_not_explained_by_a_removal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"panic: tocommit(9) is out of range\n")
    recording = Recording(History(), faults=tuple(journal("member")), logs={"n2": log})
    assert LogPatternChecker().check(recording, Budget()).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("family", "kind", "words", "verdict"),
    [
        (
            "disk",
            "full",
            b'{"level":"fatal","msg":"failed to save","error":"no space left on device"}\n',
            Verdict.VALID,
        ),
        (
            "disk",
            "eio",
            b'{"level":"fatal","msg":"failed to save","error":"no space left on device"}\n',
            Verdict.INVALID,
        ),
        ("damage", "wal_truncate", b"panic: Was the raft log corrupted, truncated, or lost?\n", Verdict.VALID),
        ("disk", "power_loss", b"panic: Was the raft log corrupted, truncated, or lost?\n", Verdict.INVALID),
    ],
)
def test_a_disks_error_explains_its_own_words_only(
    tmp_path: Path, family: str, kind: str, words: bytes, verdict: Verdict
) -> None:
    """A member that has lost what it had synced, as its own panic says, is what a loss of power is to find."""
    log = tmp_path / "log"
    log.write_bytes(words)
    fault = FaultRecord(1, family, kind, "active", 10, targets=("n2",))
    recording = Recording(History(), faults=(fault,), logs={"n2": log})
    assert LogPatternChecker().check(recording, Budget()).verdict is verdict


def test_the_panic_after_an_explained_last_word_is_explained_with_it_and_no_other(tmp_path: Path) -> None:
    """Zap tells the error, then Go panics with the message alone: one end, told twice."""
    told = b'{"level":"panic","msg":"failed to save snapshot","error":"open x.snap: too many open files"}\n'
    fault = FaultRecord(1, "resource", "fds", "active", 10, targets=("n2",))
    log = tmp_path / "log"
    for words, verdict in (
        (told + b"panic: failed to save snapshot\n", Verdict.VALID),
        (told + b"panic: tocommit(9) is out of range\n", Verdict.INVALID),
        (told + 2 * b"panic: failed to save snapshot\n", Verdict.INVALID),
        (b"panic: failed to save snapshot\n" + told, Verdict.INVALID),
    ):
        log.write_bytes(words)
        recording = Recording(History(), faults=(fault,), logs={"n2": log})
        assert LogPatternChecker().check(recording, Budget()).verdict is verdict, words
