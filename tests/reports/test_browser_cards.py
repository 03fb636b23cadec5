"""Anomalies in Chromium: diagrams and cycles that answer the pointer, links, known issues, values that stay text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reports.conftest import OpenedPage

pytestmark = pytest.mark.browser

Open = Callable[..., OpenedPage]
Stored = Callable[[str], Path]


def test_a_stale_read_is_told_with_operation_fault_and_member(stored: Stored, opened: Open) -> None:
    """The banner alone names what fits nowhere, who answered it, and the kill then."""
    page = opened(stored("stale-read")).page
    said = page.locator(".banner").inner_text()
    assert "Not linearizable" in said
    assert "What fits nowhere is op 9 at n2." in said
    assert "under kill n2 (fault 1)" in said


def test_resting_on_an_operation_tells_states_and_real_time(stored: Stored, opened: Open) -> None:
    """The tooltip has the state that the order leaves; what must come before or after is marked; so it is by focus."""
    report = opened(stored("stale-read"))
    page = report.page
    diagram = page.locator(".card .diagram svg").first
    culprit = diagram.locator("a.culprit")
    culprit.scroll_into_view_if_needed()
    culprit.hover()
    tip = page.locator("#tip").inner_text()
    assert "state it would find" in tip
    assert "2, and so it fits nowhere" in tip
    assert "process 1 at n2" in re.sub(r"\s+", " ", tip)
    assert diagram.locator("a.earlier").count() == 2
    page.mouse.move(0, 0)
    assert diagram.locator("a.earlier").count() == 0
    placed = diagram.locator("a.placed").first
    placed.focus()
    assert "state after it" in page.locator("#tip").inner_text()
    assert diagram.locator("a.later").count() == 2
    assert report.complaints == []


def test_an_anomalys_operations_lead_to_the_inspector_and_the_timeline(stored: Stored, opened: Open) -> None:
    """A bar of the space-time diagram is a link to its operation, the card's button to its time and key."""
    report = opened(stored("stale-read"))
    page = report.page
    page.locator(".card svg a.culprit").first.click()
    page.wait_for_selector("#inspector:not([hidden])")
    assert "op 9" in page.locator("#inspector h3").inner_text()
    page.keyboard.press("Escape")
    whole = report.range_s()
    page.evaluate("document.body.removeAttribute('data-followed')")
    page.locator(".card a.button").first.click()
    page.wait_for_selector("body[data-followed]")
    narrowed = report.range_s()
    assert narrowed[1] - narrowed[0] < 3
    assert narrowed != whole
    assert page.locator("[data-filter=key]").input_value() == "x"


def test_a_cycle_is_drawn_with_every_edge_explained(stored: Stored, opened: Open) -> None:
    """An explanation lights its arrow up; transactions are links; what the checker drew itself is not shown as text."""
    report = opened(stored("read-skew"))
    page = report.page
    cycle = page.locator(".card .cycle").first
    assert "Read skew (G-single)" in page.locator(".banner").inner_text()
    explanations = cycle.locator("ol.edges li")
    assert explanations.count() == cycle.locator("g.edge").count() == 2
    assert "read [] of key 'b'" in cycle.inner_text()
    assert "digraph" not in page.locator("main").inner_text()
    explanations.first.hover()
    number = explanations.first.get_attribute("data-edge")
    assert cycle.locator("g.edge.lit").get_attribute("data-edge") == number
    page.mouse.move(0, 0)
    assert cycle.locator("g.edge.lit").count() == 0
    cycle.locator("svg a.op").first.click()
    page.wait_for_selector("#inspector:not([hidden])")
    assert report.complaints == []


def test_known_issues_and_expected_findings_say_so(stored: Stored, opened: Open) -> None:
    """In the card and in the banner."""
    page = opened(stored("unsafe")).page
    assert "13766: a member killed under load loses writes" in page.locator(".card .known").inner_text()
    assert "Expected: unsafe" in page.locator(".card .expected").inner_text()
    assert "Expected: unsafe" in page.locator(".banner").inner_text()


def test_missed_service_levels_are_shown_with_what_was_measured(stored: Stored, opened: Open) -> None:
    """The missed one stands first, and its moment leads to the timeline."""
    report = opened(stored("slow"))
    page = report.page
    assert "SLO MISSED" in page.locator(".banner").inner_text()
    rows = page.locator(".slos tbody tr")
    assert "recovery<500ms" in rows.nth(0).inner_text()
    assert "missed" in rows.nth(0).inner_text()
    assert "1.90 s" in rows.nth(0).inner_text()
    assert "met" in rows.nth(1).inner_text()
    page.evaluate("document.body.removeAttribute('data-followed')")
    rows.nth(0).locator("a.moment").click()
    page.wait_for_selector("body[data-followed]")
    assert report.range_s() == (5.5, 6.5)


def test_hostile_values_stay_text(stored: Stored, opened: Open) -> None:
    """Script tags, handlers, direction marks and NULs in keys, values and logs run nothing and turn no text around."""
    report = opened(stored("hostile"))
    page = report.page
    page.locator("[data-filter=key]").fill("script")
    assert report.number("#shown-count") > 0
    links = page.evaluate("[...document.querySelectorAll('a[href^=\"#op=\"]')].map((a) => a.getAttribute('href'))")
    for link in links[:5]:
        report.go(link.removeprefix("#"))
    for text in ("<script>", "<img", "gnp.exe", "\u202e", "%"):
        page.locator("#search").fill(text)
        page.locator("#search").press("Enter")
        page.wait_for_selector("#search-state[data-done]")
    page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert report.complaints == []
    text = page.evaluate(
        "document.querySelector('main').textContent + document.getElementById('inspector').textContent"
    )
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    assert "\\u202e" in text


def test_a_hostile_fragment_is_only_text(stored: Stored, opened: Open) -> None:
    """A link that somebody else made can run nothing, and one that is no link does nothing."""
    report = opened(stored("valid"), "#q=%3Cimg%20src%3Dx%20onerror%3D%22window.pwned%3D1%22%3E")
    for fragment in ("q=%", "t=1-", "op=", "key=%E0%A4%A", "=&&=", "t=5-6&key=<img src=x onerror=window.pwned=1>"):
        report.go(fragment)
    assert report.page.evaluate("window.pwned") is None
    assert report.complaints == []


def test_a_huge_value_is_cut_with_its_length(stored: Stored, opened: Open) -> None:
    """A value of a megabyte opens at once and says how long it was."""
    run = stored("hostile")
    lines = (run / "history.jsonl").read_text().splitlines()
    index = next(json.loads(line)["index"] for line in lines if '"key":"big"' in line)
    page = opened(run, f"#op={index}").page
    assert "1,000,000 characters" in page.locator("#inspector").inner_text()
