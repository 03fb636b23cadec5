"""What is said of a member that ended: its own words, and one line of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.harness.clusters.lastwords import LINE_CHARACTERS, last_words

INFO = '{"level":"info","ts":"t","msg":"starting"}\n'
WARN = '{"level":"warn","ts":"t","msg":"failed to start etcd","error":"bind: address already in use"}\n'
FATAL = '{"level":"fatal","ts":"t","msg":"discovery failed","error":"x","stacktrace":"a\\nb"}\n'


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (INFO + WARN + FATAL, "failed to start etcd: bind: address already in use; discovery failed: x"),
        (INFO + INFO, "starting; starting"),
        ("flag provided but not defined: -x\nUsage:\n\n  etcd [flags]\n", "flag provided but not defined: -x"),
        (INFO + WARN + FATAL + "panic: oops\n\ngoroutine 1 [running]:\n", "discovery failed: x; panic: oops"),
        (INFO + "panic: oops\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: oops"),
        (INFO + '{"level":"warn","msg":"torn', "starting"),
        ("", "nothing"),
    ],
)
def test_the_gravest_of_the_last_lines_is_told(tmp_path: Path, log: str, words: str) -> None:
    file = tmp_path / "n1.log"
    file.write_text(log)
    assert last_words(file) == words


def test_what_an_earlier_life_said_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "n1.log"
    file.write_text(FATAL + INFO)
    assert last_words(file, len(FATAL)) == "starting"


def test_long_lines_are_cut_and_missing_logs_said(tmp_path: Path) -> None:
    file = tmp_path / "n1.log"
    file.write_text("x" * 10_000)
    assert len(last_words(file)) == LINE_CHARACTERS
    assert "cannot be read: No such file" in last_words(tmp_path / "n2.log")
