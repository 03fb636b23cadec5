"""JUnit XML: one case a checker and key, nothing green that proved nothing, and XML whatever the values hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.harness.store import Results
from splitvote.reports.junit import junit, write_junit
from tests.reports.fake_runs import HOSTILE
from tests.reports.nightly_stores import ISSUE, lost_write, night


def suite_of(*results: Result, verdict: Verdict = Verdict.VALID, **more: Any) -> Xml.Element:
    """The suite of a run with these results."""
    text = junit("kv", "20260301T023000-1", None, Results(verdict, results, duration_s=12.5, **more))
    suite = Xml.fromstring(text).find("testsuite")
    assert suite is not None
    return suite


def outcomes(suite: Xml.Element) -> dict[str, str]:
    """Passed, or the element and its type, by the case's name."""
    found = {}
    for case in suite.iter("testcase"):
        told = [child for child in case if child.tag in ("failure", "error", "skipped")]
        assert len(told) <= 1
        found[case.attrib["name"]] = f"{told[0].tag} {told[0].attrib['type']}" if told else "passed"
    return found


def test_each_verdict_is_a_kind_of_case() -> None:
    """VALID passes, INVALID and SLO_MISSED fail; UNKNOWN is an error, since a skipped case would look green."""
    suite = suite_of(
        Result("kv", Verdict.VALID, stats={"check_s": 1.25}),
        Result("agreement", Verdict.INVALID, "members differ"),
        Result("vacuity", Verdict.UNKNOWN, "vacuous: too little"),
        Result("slo", Verdict.SLO_MISSED, "p99<1ms missed"),
        verdict=Verdict.INVALID,
    )
    assert outcomes(suite) == {
        "kv": "passed",
        "agreement": "failure INVALID",
        "vacuity": "error UNKNOWN",
        "slo": "failure SLO_MISSED",
    }
    assert [suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")] == ["4", "2", "1", "0"]
    assert (suite.attrib["time"], suite[1].attrib["time"]) == ("12.500", "1.250")
    told = suite.find("testcase[@name='vacuity']/error")
    assert told is not None
    assert told.attrib["message"] == "vacuous: too little"


def test_keys_that_a_checker_speaks_of_have_cases_of_their_own() -> None:
    """The checker's own case has the whole verdict; violated keys fail and undecided ones are errors."""
    undecided = {"undecided": [{"key": "k9", "reason": "gave up after 300 s"}]}
    anomalies = (Anomaly("nonlinearizable", "lost", key="k1"), Anomaly("nonlinearizable", "stale", key=["a", 2]))
    suite = suite_of(Result("linearizability", Verdict.INVALID, "2 of 9 keys", anomalies, undecided))
    assert outcomes(suite) == {
        "linearizability": "failure INVALID",
        "linearizability: key k1": "failure INVALID",
        'linearizability: key ["a",2]': "failure INVALID",
        "linearizability: key k9": "error UNKNOWN",
    }


def test_objectives_have_cases_of_their_own() -> None:
    """Each service level asked for is met or missed, with what was measured."""
    slos = {
        "slos": [
            {"slo": "p99<1ms", "met": False, "measured": "3 ms", "where": "(op 3)"},
            {"slo": "recovery<5s", "met": True, "measured": "2 s"},
        ]
    }
    suite = suite_of(Result("slo", Verdict.SLO_MISSED, "missed", evidence=slos), verdict=Verdict.SLO_MISSED)
    assert outcomes(suite) == {
        "slo": "failure SLO_MISSED",
        "slo: p99<1ms": "failure SLO_MISSED",
        "slo: recovery<5s": "passed",
    }


def test_what_was_expected_fails_as_its_exit_code_does_and_says_so() -> None:
    """INVALID of an unsafe workload ends with exit 1, and is a failure whose type names the expectation."""
    result = Result("lock-set", Verdict.INVALID, "lost", expected="unsafe")
    suite = suite_of(result, verdict=Verdict.INVALID, expected="unsafe")
    assert outcomes(suite) == {"lock-set": "failure INVALID (expected: unsafe)"}
    assert {"name": "expected", "value": "unsafe"} in [item.attrib for item in suite.iter("property")]


def test_a_harness_that_failed_is_an_error_beside_what_came_before() -> None:
    """Exit 3 is not green, though every checker was content with what it saw."""
    suite = suite_of(Result("kv", Verdict.VALID), failure="OSError: disk full")
    assert outcomes(suite) == {"harness": "error HARNESS_FAILED", "kv": "passed"}
    assert {"name": "exit code", "value": "3"} in [item.attrib for item in suite.iter("property")]


def test_a_run_that_nobody_judged_is_an_error() -> None:
    """No results.json: one case that says how to judge it."""
    suite = Xml.fromstring(junit("kv", "x", None, None)).find("testsuite")
    assert suite is not None
    assert outcomes(suite) == {"judged": "error NOT_JUDGED"}


def test_a_failure_tells_its_anomalies_and_the_issue_they_match(tmp_path: Path) -> None:
    """Stories in words, a bound on how many, known issues once; the seed and the command as properties."""
    anomalies = tuple([lost_write(known=True)] * 300)
    run = night(tmp_path, "kv", 3, Verdict.INVALID, anomalies=anomalies)
    path = write_junit(run.path, tmp_path / "new" / "junit.xml")
    assert path.stat().st_size < 20_000
    suite = Xml.parse(path).getroot()[0]
    failure = suite.find("testcase[@name='kv']/failure")
    assert failure is not None
    assert failure.text is not None
    lines = failure.text.splitlines()
    assert lines[0] == "kv: lost write: an acknowledged write is gone"
    assert lines[-2:] == ["and 280 more in results.json", f"known issue of etcd, {ISSUE}"]
    properties = {item.attrib["name"]: item.attrib["value"] for item in suite.iter("property")}
    assert (properties["seed"], properties["versions"]) == ("3", "etcd 3.5.30")
    assert properties["command"] == "splitvote run kv --seed 3"
    assert suite.attrib["timestamp"].startswith("2026-03-04T02:30:00")


@pytest.mark.parametrize("text", [*HOSTILE, "]]><!--", "\ud800", "\ufffe\uffff", "x" * 1_000_000])
def test_hostile_values_are_text_in_well_formed_xml(text: str) -> None:
    """Controls, lone halves, markup and a megabyte: the XML is read back, and is small."""
    result = Result(text, Verdict.INVALID, text, (Anomaly(text, text, key=text, details={"known_issue": text}),))
    xml = junit(text, text, None, Results(Verdict.INVALID, (result,), failure=text))
    assert len(Xml.fromstring(xml.encode())[0].findall("testcase")) == 3
    assert len(xml) < 60_000


def test_many_keys_are_bounded() -> None:
    """A run in which everything broke still makes a file that a CI system takes."""
    anomalies = tuple(Anomaly("nonlinearizable", "lost", key=f"k{number}") for number in range(5_000))
    assert len(outcomes(suite_of(Result("linearizability", Verdict.INVALID, "all", anomalies)))) == 51


def test_damage_is_named(tmp_path: Path) -> None:
    """Results that cannot be read are no results: the file is named, and nothing is written."""
    run = night(tmp_path, "kv", 1)
    run.results.write_text("{")
    with pytest.raises(HistoryError, match=r"results\.json"):
        write_junit(run.path, tmp_path / "junit.xml")
    assert not (tmp_path / "junit.xml").exists()
    run.results.write_text('{"verdict": "VALID", "results": [], "schema": 2}')
    with pytest.raises(HistoryError, match="of schema 2"):
        write_junit(run.path, tmp_path / "junit.xml")
    with pytest.raises(ConfigError, match="is no run"):
        write_junit(tmp_path, tmp_path / "junit.xml")
