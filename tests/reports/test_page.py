"""The page as text: what it says, what it weighs, and that it is made of whatever is there."""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.result import Verdict
from splitvote.reports import markdown_summary, text_summary, write_report
from tests.reports.fake_runs import HOSTILE, FakeRun

Stored = Callable[[str], Path]


def page_of(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def words_of(page: str) -> str:
    """The page's text without its scripts, styles and tags."""
    bare = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def embedded(page: str, name: str) -> Any:
    """One of the page's data elements, unpacked."""
    found = re.search(rf'id="data-{name}" data-kind="([a-z+]+)">([^<]*)</script>', page)
    assert found is not None, name
    if found[1].endswith("+deflate"):
        content = zlib.decompress(base64.b64decode(found[2]))
        return json.loads(content) if found[1].startswith("json") else content
    return json.loads(found[2])


def test_an_invalid_run_says_what_broke_when_and_under_which_fault(stored: Stored) -> None:
    """The banner and the cards name the property, the members, the time and the fault."""
    words = words_of(page_of(stored("invalid")))
    assert "INVALID" in words
    assert "Members hold different values" in words
    assert "nonlinearizable" in words
    assert re.search(r"between [\d.]+ s and [\d.]+ s, under \w+", words)
    assert "n4: absent" in words
    assert "etcd 3.5.1 may lose agreement" in words


def test_a_valid_run_says_what_was_proven(stored: Stored) -> None:
    """Numbers of operations and of proven faults by kind stand in the banner."""
    words = words_of(page_of(stored("valid")))
    assert "No violation found" in words
    assert re.search(r"Judged were [\d,]+ operations \([\d,]+ ok, [\d,]+ fail, \d+ info\)", words)
    assert re.search(r"under \d+ proven faults \(\w+ . \d", words)


def test_an_unknown_run_says_what_was_missing_and_what_to_do(stored: Stored) -> None:
    """A reader learns what to change."""
    words = words_of(page_of(stored("unknown")))
    assert "Missing: cas: 3 ok of the 10 needed; faults: no pause was proven" in words
    assert "Run it longer (--time)" in words


def test_every_fault_has_its_proof_and_the_proof_of_its_end(stored: Stored) -> None:
    """One row a fault; an unproven one says so."""
    run = stored("valid")
    page = page_of(run)
    ids = {json.loads(line)["id"] for line in (run / "faults.jsonl").read_text().splitlines()}
    assert {int(found) for found in re.findall(r'<tr id="fault-(\d+)"', page)} == ids
    words = words_of(page)
    assert "all 14 threads are in state T" in words
    assert "not proven" in words


def test_the_page_names_nothing_outside_itself(stored: Stored) -> None:
    """No address of another host, and a policy that would refuse one."""
    page = page_of(stored("invalid"))
    assert "default-src 'none'" in page
    assert re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*"', page) == []
    assert "unsafe-inline' 'sha256" not in page


def test_columns_and_details_hold_every_operation(stored: Stored) -> None:
    """What the browser draws is the history: as many operations, each with its own records."""
    run = stored("valid")
    page = page_of(run)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    invokes = [line["index"] for line in lines if line.get("type", "invoke") == "invoke"]
    whole = embedded(page, "run")
    assert whole["operations"]["count"] == len(invokes)
    width, offset, length = whole["operations"]["places"]["invoke_gap"]
    column = memoryview(embedded(page, "columns"))[offset : offset + width * length].cast("I")
    assert list(accumulate(column)) == invokes
    second = embedded(page, "details-1")
    assert [details[0]["index"] for details in second] == invokes[whole["chunk"] : 2 * whole["chunk"]]


def test_hostile_values_cannot_leave_their_place(stored: Stored) -> None:
    """No value ends a script element or opens a tag, in the page's own text or in its data."""
    page = page_of(stored("hostile"))
    assert "window.pwned" in html.unescape(page)
    for text in HOSTILE:
        if "<" in text:
            assert text not in page
    assert len(re.findall(r"<script[ >]", page)) == len(re.findall(r"</script>", page))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", page)


def test_ten_thousand_operations_weigh_less_than_a_megabyte_and_a_half(tmp_path: Path) -> None:
    """The budget of the page, data and logs included; and 300 kB without any data."""
    big = FakeRun(seconds=75, rate=200, threads=20)
    page = write_report(big.write(tmp_path / "big"))
    assert sum(record.type == "invoke" for record in big.records) > 10_000
    assert page.stat().st_size <= 1_500_000
    (tmp_path / "empty").mkdir()
    assert write_report(tmp_path / "empty").stat().st_size <= 300_000


@pytest.mark.parametrize(
    "missing", ["config.json", "history.jsonl", "faults.jsonl", "cluster.jsonl", "final.json", "results.json"]
)
def test_a_missing_file_is_said_and_the_rest_is_shown(tmp_path: Path, missing: str) -> None:
    """A killed run, or a history from elsewhere, still has a page and a summary."""
    run = FakeRun(seconds=12).write(tmp_path / "run")
    (run / missing).unlink()
    words = words_of(write_report(run).read_text(encoding="utf-8"))
    assert f"There is no {missing}" in words
    assert f"There is no {missing}" in text_summary(run)
    assert f"There is no {missing}".replace("_", r"\_") in markdown_summary(run)


def test_a_run_without_faults_lacks_no_journal(tmp_path: Path) -> None:
    """Where no faults were asked for there is no faults.jsonl, and nothing to say about it."""
    run = FakeRun(seconds=12).write(tmp_path / "run")
    (run / "faults.jsonl").unlink()
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"faults": []}))
    assert "There is no faults.jsonl" not in words_of(write_report(run).read_text(encoding="utf-8"))


def test_damage_is_said_and_what_precedes_it_is_shown(tmp_path: Path) -> None:
    """A torn last line, garbage in the middle and broken UTF-8 end a file early, never the report."""
    run = FakeRun(seconds=12).write(tmp_path / "run")
    lines = (run / "history.jsonl").read_bytes().splitlines(keepends=True)
    (run / "history.jsonl").write_bytes(b"".join(lines[:500]) + b"no record\n" + b"".join(lines[500:]))
    faults = (run / "faults.jsonl").read_bytes()
    (run / "faults.jsonl").write_bytes(faults[:-20])
    (run / "cluster.jsonl").write_bytes(b'{"time_ns": 5, "members": {"n\xff": {}}}\n')
    (run / "config.json").write_bytes(b"{")
    page = write_report(run).read_text(encoding="utf-8")
    words = words_of(page)
    assert "history.jsonl: line 501 is not a record" in words
    assert "faults.jsonl: the last line is torn" in words
    assert "cluster.jsonl: line 1 is not a record" in words
    assert "config.json cannot be read" in words
    count = sum(json.loads(line).get("type", "invoke") == "invoke" for line in lines[:500])
    assert embedded(page, "run")["operations"]["count"] == count


def test_a_harness_failure_is_said_beside_the_verdict(tmp_path: Path) -> None:
    """Our own trouble is never hidden behind a verdict."""
    run = FakeRun(seconds=12, verdict=Verdict.UNKNOWN).write(tmp_path / "run")
    results = json.loads((run / "results.json").read_bytes())
    results |= {"failure": "No space left on device", "interrupted": True}
    (run / "results.json").write_text(json.dumps(results))
    words = words_of(write_report(run).read_text(encoding="utf-8"))
    assert "the run ended early: No space left on device" in words
    assert "The run was interrupted" in words


def test_an_invalid_that_was_to_be_expected_is_said_to_be_no_surprise(tmp_path: Path) -> None:
    """The verdict stays; beside it stands that the workload shows what the system does not promise."""
    run = FakeRun(seconds=12, verdict=Verdict.INVALID).write(tmp_path / "run")
    expected = "Expected: unsafe. The workload shows what the system does not promise."
    assert expected not in words_of(write_report(run).read_text(encoding="utf-8"))
    results = json.loads((run / "results.json").read_bytes()) | {"expected": "unsafe"}
    (run / "results.json").write_text(json.dumps(results))
    words = words_of(write_report(run).read_text(encoding="utf-8"))
    assert expected in words
    assert "INVALID" in words


def test_no_directory_is_the_callers_mistake(tmp_path: Path) -> None:
    """The message names the path and says what to give."""
    with pytest.raises(ConfigError, match="nowhere is no run's directory; give STORE"):
        write_report(tmp_path / "nowhere")


def test_the_summaries_are_short_and_name_the_verdict_first(stored: Stored) -> None:
    """Both fit a screen; Markdown holds no markup of the system under test."""
    for name, verdict in (("valid", "VALID"), ("invalid", "INVALID"), ("unknown", "UNKNOWN")):
        text, markdown = text_summary(stored(name)), markdown_summary(stored(name))
        assert text.startswith(f"{verdict}: ")
        assert markdown.startswith(f"## {verdict}: ")
        assert len(text.splitlines()) < 25
        assert len(markdown) < 6_000
        assert "splitvote run register" in text
        assert "splitvote run register" in markdown
    assert not re.search(r"<(script|img)", markdown_summary(stored("hostile")))
