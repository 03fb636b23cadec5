"""The report in Chromium: it opens offline without a complaint, and every interaction does what it says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitvote.reports import write_report
from tests.reports.conftest import OpenedPage
from tests.reports.fake_runs import FakeRun

pytestmark = pytest.mark.browser

Open = Callable[..., OpenedPage]
Stored = Callable[[str], Path]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag within the chart, by fractions of its width and pixels from its top."""
    box = page.locator("#chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] * start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end[0], box["y"] + end[1], steps=4)
    page.mouse.up()


def shown_range(page: Any) -> tuple[float, float]:
    """The seconds that the timeline says it shows."""
    page.wait_for_timeout(60)
    found = re.findall(r"([\d.]+) s", page.locator("#range").inner_text())
    return float(found[0]), float(found[1])


def drawn_colours(page: Any) -> int:
    """How many different colours the chart's canvas has: 1 is an empty one."""
    return page.evaluate(
        """() => {
          const canvas = document.getElementById("chart-base");
          const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(image.data.buffer)).size;
        }"""
    )


@pytest.mark.parametrize("name", ["valid", "invalid", "unknown", "hostile"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1920, "dark")])
def test_a_report_opens_offline_without_a_complaint(
    stored: Stored, opened: Open, name: str, width: int, scheme: str
) -> None:
    """No console error, no request but for the file itself, no sideways scrolling, and something drawn."""
    report = opened(stored(name), width=width, scheme=scheme)
    assert report.complaints == []
    assert [url for url in report.requests if not url.startswith("data:")] == [report.page.url.split("#")[0]]
    assert report.page.evaluate("document.documentElement.scrollWidth") <= width
    assert report.page.evaluate("document.documentElement.dataset.theme") == scheme
    assert drawn_colours(report.page) > 20


def test_dragging_zooms_and_the_whole_run_comes_back(stored: Stored, opened: Open) -> None:
    """A drag shows what it covered; shift and drag moves; double click and keys do as the page says."""
    page = opened(stored("valid")).page
    first, last = shown_range(page)
    page.locator("#chart").scroll_into_view_if_needed()
    drag(page, (0.4, 200), (0.6, 200))
    zoomed = shown_range(page)
    assert first < zoomed[0] < zoomed[1] < last
    assert zoomed[1] - zoomed[0] < (last - first) / 3
    page.keyboard.down("Shift")
    drag(page, (0.5, 200), (0.7, 200))
    page.keyboard.up("Shift")
    moved = shown_range(page)
    assert moved[0] < zoomed[0]
    assert moved[1] - moved[0] == pytest.approx(zoomed[1] - zoomed[0], abs=0.01)
    page.locator("#chart").focus()
    page.keyboard.press("+")
    assert shown_range(page)[0] > moved[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    assert shown_range(page) == (first, last)
    page.locator("[data-zoom=in]").click()
    page.locator("[data-zoom=right]").click()
    page.locator("#chart").dblclick(position={"x": 500, "y": 200})
    assert shown_range(page) == (first, last)


def test_filters_leave_what_passes_and_say_how_many(stored: Stored, opened: Open) -> None:
    """By f, outcome, node, process and key; cleared at once."""
    report = opened(stored("valid"))
    page = report.page
    everything = report.number("#shown-count")
    counts = {}
    for f in ("get", "put", "cas"):
        page.locator(f"[data-filter='f:{f}']").click()
        page.wait_for_timeout(60)
        counts[f] = everything - report.number("#shown-count")
        page.locator(f"[data-filter='f:{f}']").click()
    assert sum(counts.values()) == everything
    assert min(counts.values()) > 0
    page.locator("[data-filter=node]").select_option("0")
    page.wait_for_timeout(60)
    of_node = report.number("#shown-count")
    assert 0 < of_node < everything
    page.locator("[data-filter=key]").fill("r1")
    page.wait_for_timeout(60)
    assert 0 < report.number("#shown-count") < of_node
    page.locator("[data-filter=process]").fill("99999")
    page.wait_for_timeout(60)
    assert report.number("#shown-count") == 0
    page.locator("#clear-filters").click()
    page.wait_for_timeout(60)
    assert report.number("#shown-count") == everything


def test_a_deep_link_opens_the_operation_with_its_pair(stored: Stored, opened: Open) -> None:
    """#op= takes the index of either record; both records' fields are there; Escape closes."""
    run = stored("valid")
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    index = next(line["index"] for line in lines[1000:] if line.get("type") == "ok")
    report = opened(run, f"#op={index}")
    page = report.page
    inspector = page.locator("#inspector")
    assert inspector.is_visible()
    text = inspector.inner_text()
    assert re.search(rf"index\s+\d+\s+{index}\b", text)
    assert "invoked" in text
    assert "completed" in text
    first, last = shown_range(page)
    assert last - first < 30
    page.keyboard.press("Escape")
    assert not inspector.is_visible()
    page.goto(page.url.split("#")[0] + "#t=12.5-15")
    page.wait_for_timeout(100)
    assert shown_range(page) == (12.5, 15.0)
    page.goto(page.url.split("#")[0] + "#op=99999999")
    page.wait_for_timeout(100)
    assert "no client's operation" in inspector.inner_text()
    assert report.complaints == []


def test_clicking_an_operation_opens_it_and_makes_a_link(stored: Stored, opened: Open) -> None:
    """Wherever an operation lies under the pointer, its tooltip and its inspector name the same one."""
    report = opened(stored("valid"), "#t=10-10.5")
    page = report.page
    page.locator("#chart").scroll_into_view_if_needed()
    place = page.evaluate(
        """() => {
          const box = document.getElementById("chart").getBoundingClientRect();
          const chart = document.getElementById("chart");
          for (let y = 260; y < box.height - 200; y += 5) {
            for (let x = 130; x < box.width - 30; x += 7) {
              chart.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + x, clientY: box.top + y}));
              if (chart.style.cursor === "pointer") return [box.left + x, box.top + y];
            }
          }
          return null;
        }"""
    )
    assert place is not None, "no operation anywhere under the pointer"
    page.mouse.move(*place)
    said = page.locator("#tip b").inner_text()
    page.mouse.click(*place)
    page.wait_for_selector("#inspector:not([hidden])")
    assert page.locator("#inspector h3").inner_text() == said
    assert re.search(r"#op=\d+$", page.url)
    before = page.locator("#inspector h3").inner_text()
    page.locator("#inspector button", has_text="after in lane").click()
    page.wait_for_function(f"document.querySelector('#inspector h3').textContent !== {before!r}")
    page.locator("#close-inspector").click()
    assert not page.locator("#inspector").is_visible()


def test_an_anomalys_operations_lead_to_the_inspector_and_the_timeline(stored: Stored, opened: Open) -> None:
    """A bar of the space-time diagram is a link to its operation, the card's button to its time."""
    page = opened(stored("invalid")).page
    card = page.locator(".card", has=page.locator("code", has_text="nonlinearizable"))
    card.locator("svg a.culprit").first.click()
    page.wait_for_selector("#inspector:not([hidden])")
    page.keyboard.press("Escape")
    whole = shown_range(page)
    card.locator("a.button").click()
    page.wait_for_timeout(100)
    narrowed = shown_range(page)
    assert narrowed[1] - narrowed[0] < 10
    assert narrowed != whole


def test_the_command_can_be_copied(stored: Stored, opened: Open) -> None:
    """The button puts the whole command on the clipboard and says so."""
    page = opened(stored("valid")).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("[data-copy=command]").click()
    page.wait_for_selector("[data-copy=command]:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()").startswith("splitvote run register --faults")


def test_the_theme_can_be_switched(stored: Stored, opened: Open) -> None:
    """Light becomes dark, and the chart is drawn anew."""
    page = opened(stored("valid")).page
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_hostile_values_stay_text(stored: Stored, opened: Open) -> None:
    """Script tags, handlers, direction marks and NULs in keys, values and logs run nothing and turn no text around."""
    report = opened(stored("hostile"))
    page = report.page
    page.locator("[data-filter=key]").fill("script")
    page.wait_for_timeout(60)
    assert report.number("#shown-count") > 0
    for index in page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#op=\"]')].map((a) => a.getAttribute('href'))"
    )[:5]:
        page.goto(page.url.split("#")[0] + index)
        page.wait_for_timeout(60)
    page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert report.complaints == []
    text = page.evaluate("document.querySelector('main').textContent")
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    assert "\\u202e" in text


def test_a_huge_value_is_cut_with_its_length(stored: Stored, opened: Open) -> None:
    """A value of a megabyte opens at once and says how long it was."""
    run = stored("hostile")
    lines = (run / "history.jsonl").read_text().splitlines()
    index = next(json.loads(line)["index"] for line in lines if '"key":"big"' in line)
    page = opened(run, f"#op={index}").page
    assert "1,000,000 characters" in page.locator("#inspector").inner_text()


def test_details_of_a_huge_run_are_loaded_from_beside_the_page(
    stored: Stored, opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Past the limit an operation's records come from a script next to the page; without it the page says so."""
    monkeypatch.setattr("splitvote.reports.page.INLINE_BYTES", 0)
    run = shutil.copytree(stored("unknown"), tmp_path / "run")
    write_report(run)
    report = opened(run, "#op=1000")
    assert "invoked" in report.page.locator("#inspector").inner_text()
    assert report.complaints == []
    assert any(url.endswith("report-details/details-0.js") for url in report.requests)
    shutil.rmtree(run / "report-details")
    text = opened(run, "#op=1000").page.locator("#inspector").inner_text()
    assert "keep the folder report-details beside the page" in text


def test_latency_can_be_counted_from_the_intended_start(stored: Stored, opened: Open) -> None:
    """The panel is drawn anew, on its own scale."""
    page = opened(stored("valid")).page
    before = page.evaluate("document.getElementById('chart-base').toDataURL()")
    page.locator("#from-intent").check()
    page.wait_for_timeout(80)
    assert page.evaluate("document.getElementById('chart-base').toDataURL()") != before


def test_tens_of_thousands_in_view_are_drawn_as_pixels(opened: Open, tmp_path: Path) -> None:
    """Past what marks can show, lanes and latencies are still there, quick to move, and can be clicked."""
    run = FakeRun(seconds=40, rate=1500, threads=60).write(tmp_path / "dense")
    write_report(run)
    report = opened(run)
    page = report.page
    assert report.number("#shown-count") > 30_000
    assert drawn_colours(page) > 20
    page.locator("[data-zoom=in]").click()
    page.wait_for_timeout(80)
    took_ms = page.evaluate(
        """async () => {
          const started = performance.now();
          for (let step = 0; step < 5; step++) {
            document.querySelector("[data-zoom=right]").click();
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          }
          return performance.now() - started;
        }"""
    )
    assert took_ms < 5_000, "a bound for a busy machine: a second a frame"
    assert report.complaints == []
