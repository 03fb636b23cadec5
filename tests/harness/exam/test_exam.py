"""The exam: which answers are right, what is asked again, what the marks say; two small sittings on the simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitvote.harness.cli import main
from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.exam import CONTROL, EXPECTATIONS, Question, Sitting, as_json, as_markdown, as_text, marks_of
from splitvote.harness.exam import sitting as sittings
from splitvote.harness.exam.sitting import Answer
from splitvote.harness.exam.table import BEGIN, END, write_into
from splitvote.harness.result import Verdict
from splitvote.harness.seeds import Found, SeedOutcome
from splitvote.harness.simulation.mutants import MUTANTS

ROOT = Path(__file__).parents[3]
LOST_UPDATE = msgspec.structs.replace(MUTANTS["lost-update"], workloads=("kv",))


def answer(
    mutant: str, seed: int, *found: Found, workload: str = "kv", verdict: Verdict | None = None, **fields: Any
) -> Answer:
    if verdict is None:
        verdict = Verdict.INVALID if found else Verdict.VALID
    outcome = SeedOutcome(seed, verdict, found, wall_s=2.0, **fields)
    return Answer(Question(mutant, workload, seed, 60.0), outcome, "code")


def test_every_mutant_has_an_expectation_of_names_that_checkers_give() -> None:
    """Else a mutant could never be caught, whatever was found."""
    assert set(EXPECTATIONS) == set(MUTANTS)
    sources = "".join(file.read_text() for file in (ROOT / "checkers").rglob("*.py"))
    shown = {name for expectation in EXPECTATIONS.values() for name in expectation.shows}
    unknown = {name for name in shown if f'"{name}"' not in sources and name.split(": ")[-1] not in sources}
    assert not unknown


def test_a_mutant_is_caught_by_a_right_name_only() -> None:
    """INVALID by another name is shown, and is no catch; the median counts the seeds that were caught."""
    right = Found("watch", "watch: filter", 3, 2.0)
    marks = marks_of(
        [
            answer("filter-ignored", 1, right, Found("watch", "watch: unique", 1, 1.0), workload="watch"),
            answer("filter-ignored", 2, Found("watch", "watch: unique", 1), workload="watch", mutants={"x": 4}),
            answer("filter-ignored", 3, msgspec.structs.replace(right, at_s=4.0), workload="watch"),
            answer("filter-ignored", 4, workload="watch"),
        ]
    )
    (mark,) = marks.mutants
    assert (mark.seeds, mark.caught, mark.fired, mark.median_at_s) == (4, 2, 1, 3.0)
    assert mark.names == {"watch: filter": 2}
    assert mark.other_names == {"watch: unique": 1}
    assert marks.uncaught == ()
    assert marks.missed_bars == ()


def test_what_misses_a_bar_is_named() -> None:
    """A mutant that nothing shows, a false alarm, a control that is seldom VALID."""
    marks = marks_of(
        [
            answer("lost-update", 1, Found("watch", "watch: unique", 1)),
            *(answer(CONTROL, seed) for seed in range(60)),
            answer(CONTROL, 60, Found("kv", "kv: stale read", 1), reasons={"kv": "a read was stale"}),
            answer(CONTROL, 61, verdict=Verdict.UNKNOWN, reasons={"vacuity": "vacuous"}),
        ]
    )
    assert marks.missed_bars == (
        "lost-update was not caught",
        "false alarm: kv, seed 60: kv: stale read",
        "96.8% of the control is VALID, less than 98%",
    )
    words = "\n".join(as_text(marks))
    assert "only by other names: watch: unique (1)" in words
    assert "1 x kv: vacuity: vacuous" in words
    assert json.loads(as_json(marks))["missed_bars"] == list(marks.missed_bars)


def test_the_table_goes_between_the_documents_markers(tmp_path: Path) -> None:
    """What is around it stays; a document without them is refused and stays as it is."""
    document = tmp_path / "exam.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    marks = marks_of([answer("lost-update", 1, Found("kv", "kv: effect", 1, 0.5))])
    write_into(document, marks)
    write_into(document, marks)
    assert document.read_text() == f"before\n{BEGIN}\n\n{as_markdown(marks)}\n\n{END}\nafter\n"
    assert "old" not in document.read_text()
    (tmp_path / "other.md").write_text("text")
    with pytest.raises(ConfigError, match="lacks the lines"):
        write_into(tmp_path / "other.md", marks)
    assert (tmp_path / "other.md").read_text() == "text"


def test_a_sitting_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is caught and the control is not; the same code asks nothing twice, other code asks everything again."""
    given: list[Answer] = []
    with Sitting(tmp_path, jobs=2, on_answer=given.append) as sitting:
        answers = sitting.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=1)
    assert [answer.question.mutant for answer in given] == [answer.question.mutant for answer in answers]
    caught = next(answer for answer in answers if answer.question.mutant == "lost-update")
    control = next(answer for answer in answers if answer.question.mutant == CONTROL)
    assert caught.right
    assert caught.outcome.mutants["lost-update"] > 0
    assert caught.at_s is not None
    assert 0 < caught.at_s < 10
    assert control.outcome.verdict is not Verdict.INVALID

    def no_pool(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    with Sitting(tmp_path) as again:
        monkeypatch.setattr(again, "_make_pool", no_pool)
        known = again.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=1)
        assert {answer.question: answer for answer in known} == {answer.question: answer for answer in answers}
        assert len(known) == len(answers)
    monkeypatch.setattr(sittings, "code_fingerprint", lambda: "other")
    with Sitting(tmp_path) as other:
        monkeypatch.setattr(other, "_make_pool", no_pool)
        with pytest.raises(AssertionError, match="asked again"):
            other.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=1)
    assert list((tmp_path / "runs").glob("*/*")) == [], "no run is left"


def test_an_answer_torn_off_is_asked_again_and_the_next_stands_alone(tmp_path: Path) -> None:
    """As a full disk leaves it: what was whole before counts, and the file can be read again."""
    written = tmp_path / "answers.jsonl"
    with Sitting(tmp_path, jobs=1) as sitting:
        whole = sitting.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=0)
    written.write_bytes(written.read_bytes() + b'{"question":{"mut')
    with Sitting(tmp_path, jobs=1) as again:
        assert again.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=1)[:1] == whole
    with Sitting(tmp_path, jobs=1) as third:
        assert len(third.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=1)) == 2
    assert len(written.read_bytes().splitlines()) == 2


def test_a_question_that_is_asked_otherwise_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer under other faults, or at another rate, is not this one's."""
    with Sitting(tmp_path, jobs=1) as sitting:
        (first,) = sitting.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=0)
    monkeypatch.setattr(sittings, "RATE", 60.0)
    with Sitting(tmp_path, jobs=1) as other:
        (second,) = other.examine([LOST_UPDATE], seeds=1, time_s=5.0, control=0)
    assert "--rate 100" in first.command
    assert "--rate 60" in second.command
    assert len((tmp_path / "answers.jsonl").read_bytes().splitlines()) == 2


def test_garbage_among_the_answers_is_an_error_with_its_place(tmp_path: Path) -> None:
    """Nothing is asked on top of what cannot be read, and nothing of it is overwritten."""
    (tmp_path / "answers.jsonl").write_text("no answer\n{}\n")
    with pytest.raises(HistoryError, match="not a record"), Sitting(tmp_path):
        pass
    assert (tmp_path / "answers.jsonl").read_text() == "no answer\n{}\n"


def test_the_command_line_refuses_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt mutant, an executor that there is not."""
    for words, said in (
        (["--mutant", "lost-updat"], "did you mean 'lost-update'"),
        (["--mutant", "lost-update", "--executor", "threads"], "give process, or dask:ADDRESS"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["exam", *words, "--seeds", "1", "--control", "0", "--store", str(tmp_path)])
        assert left.value.code == 64
        assert said in capsys.readouterr().err
