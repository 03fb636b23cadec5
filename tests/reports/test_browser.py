"""The timeline in Chromium: it opens offline without a complaint, and every interaction does what it says."""

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

pytestmark = pytest.mark.browser

Open = Callable[..., OpenedPage]
Stored = Callable[[str], Path]

RUNS = ["valid", "invalid", "unknown", "hostile", "stale-read", "read-skew", "slow", "unsafe", "together"]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag within the chart, by fractions of its width and pixels from its top."""
    box = page.locator("#chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] * start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end[0], box["y"] + end[1], steps=4)
    page.mouse.up()


def drawn_colours(report: OpenedPage) -> int:
    """How many different colours the chart's canvas has: 1 is an empty one."""
    found = report.drawn().evaluate(
        """() => {
          const canvas = document.getElementById("chart-base");
          const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(image.data.buffer)).size;
        }"""
    )
    return int(found)


def has_frame(report: OpenedPage) -> bool:
    """Whether anything is drawn on the layer above the chart: the frame of the chosen operation."""
    found = report.drawn().evaluate(
        """() => {
          const canvas = document.getElementById("chart-hover");
          const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Uint32Array(image.data.buffer).some((pixel) => pixel !== 0);
        }"""
    )
    return bool(found)


def find_operation(report: OpenedPage) -> tuple[float, float]:
    """Somewhere on the chart, in the window's pixels, where the pointer finds an operation, once all are drawn."""
    page = report.drawn()
    page.locator("#chart").scroll_into_view_if_needed()
    place = page.evaluate(
        """() => {
          const chart = document.getElementById("chart");
          const box = chart.getBoundingClientRect();
          for (let y = 60; y < box.height; y += 4) {
            for (let x = 130; x < box.width - 40; x += 5) {
              const [clientX, clientY] = [box.left + x, box.top + y];
              chart.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
              if (chart.style.cursor === "pointer") return [x, y];
            }
          }
          return null;
        }"""
    )
    assert place is not None, "no operation anywhere under the pointer"
    into_sight = (
        "(y) => scrollBy(0, document.getElementById('chart').getBoundingClientRect().top + y - innerHeight / 2)"
    )
    page.evaluate(into_sight, place[1])
    box = page.locator("#chart").bounding_box()
    return box["x"] + place[0], box["y"] + place[1]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1920, "dark")])
def test_a_report_opens_offline_without_a_complaint(
    stored: Stored, opened: Open, name: str, width: int, scheme: str
) -> None:
    """No console error, no request but for the file itself, no sideways scrolling, and something drawn."""
    report = opened(stored(name), width=width, scheme=scheme)
    assert drawn_colours(report) > 20
    assert report.complaints == []
    assert [url for url in report.requests if not url.startswith("data:")] == [report.page.url.split("#")[0]]
    assert report.page.evaluate("document.documentElement.scrollWidth") <= width
    assert report.page.evaluate("document.documentElement.dataset.theme") == scheme


def test_dragging_zooms_and_the_whole_run_comes_back(stored: Stored, opened: Open) -> None:
    """A drag shows what it covered; shift and drag moves; double click and keys do as the page says."""
    report = opened(stored("valid"))
    page = report.page
    first, last = report.range_s()
    page.locator("#chart").scroll_into_view_if_needed()
    drag(page, (0.4, 200), (0.6, 200))
    zoomed = report.range_s()
    assert first < zoomed[0] < zoomed[1] < last
    assert zoomed[1] - zoomed[0] < (last - first) / 3
    page.keyboard.down("Shift")
    drag(page, (0.5, 200), (0.7, 200))
    page.keyboard.up("Shift")
    moved = report.range_s()
    assert moved[0] < zoomed[0]
    assert moved[1] - moved[0] == pytest.approx(zoomed[1] - zoomed[0], abs=0.01)
    page.locator("#chart").focus()
    page.keyboard.press("+")
    assert report.range_s()[0] > moved[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    assert report.range_s() == (first, last)
    page.locator("[data-zoom=in]").click()
    page.locator("[data-zoom=right]").click()
    page.locator("#chart").dblclick(position={"x": 500, "y": 200})
    assert report.range_s() == (first, last)


def test_the_strip_on_top_moves_what_is_shown(stored: Stored, opened: Open) -> None:
    """Pressing the overview centres the view there without changing how much it shows."""
    report = opened(stored("valid"), "#t=5-10")
    report.page.locator("#chart").scroll_into_view_if_needed()
    drag(report.page, (0.8, 15), (0.82, 15))
    first, last = report.range_s()
    assert first > 30
    assert last - first == pytest.approx(5, abs=0.01)


def test_filters_leave_what_passes_and_say_how_many(stored: Stored, opened: Open) -> None:
    """By f, outcome, node, process and key; cleared at once."""
    report = opened(stored("valid"))
    page = report.page
    everything = report.number("#shown-count")
    before = report.picture()
    for field, names in (("f", ("get", "put", "cas")), ("outcome", ("ok", "fail", "info"))):
        counts = {}
        for name in names:
            page.locator(f"[data-filter='{field}:{name}']").click()
            counts[name] = everything - report.number("#shown-count")
            page.locator(f"[data-filter='{field}:{name}']").click()
        assert sum(counts.values()) == everything
        assert min(counts.values()) > 0
    page.locator("[data-filter=node]").select_option("0")
    of_node = report.number("#shown-count")
    assert 0 < of_node < everything
    assert report.picture() != before
    page.locator("[data-filter=key]").fill("r1")
    assert 0 < report.number("#shown-count") < of_node
    page.locator("[data-filter=process]").fill("99999")
    assert report.number("#shown-count") == 0
    page.locator("#clear-filters").click()
    assert report.number("#shown-count") == everything
    assert report.picture() == before


def test_workloads_of_one_run_can_be_told_apart(stored: Stored, opened: Open) -> None:
    """A run of two workloads has a switch for each, and a view of its own for each."""
    report = opened(stored("together"))
    report.page.locator("[data-filter='workload:watch']").click()
    assert report.number("#shown-count") == 2
    report.page.locator("[data-filter='workload:lock']").click()
    assert report.number("#shown-count") == 0
    assert report.complaints == []


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
    first, last = report.range_s()
    assert last - first < 30
    assert has_frame(report)
    page.keyboard.press("Escape")
    assert not inspector.is_visible()
    assert not has_frame(report)
    report.go("t=12.5-15")
    assert report.range_s() == (12.5, 15.0)
    report.go("op=99999999")
    assert "no client's operation" in inspector.inner_text()
    assert report.complaints == []


def test_clicking_an_operation_opens_it_and_makes_a_link(stored: Stored, opened: Open) -> None:
    """Wherever an operation lies under the pointer, its tooltip and its inspector name the same one; j and k step."""
    report = opened(stored("valid"), "#t=10-10.5")
    page = report.page
    place = find_operation(report)
    page.mouse.move(*place)
    said = page.locator("#tip b").inner_text()
    page.mouse.click(*place)
    page.wait_for_selector("#inspector:not([hidden])")
    title = page.locator("#inspector h3")
    assert title.inner_text() == said
    page.wait_for_url(re.compile(r"#op=\d+$"))
    page.locator("#inspector button", has_text="after in lane").click()
    page.locator("#inspector h3", has_not_text=said).wait_for()
    page.keyboard.press("k")
    page.locator("#inspector h3", has_text=said).wait_for()
    page.locator("#close-inspector").click()
    assert not page.locator("#inspector").is_visible()


def test_search_finds_what_the_records_hold(stored: Stored, opened: Open) -> None:
    """By any text of value or error, and by index; n and p lead through the matches."""
    run = stored("valid")
    report = opened(run)
    page = report.page
    page.keyboard.press("/")
    page.keyboard.type("possibly due to connection lost")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-state[data-done]")
    expected = sum("connection lost" in line for line in (run / "history.jsonl").read_text().splitlines())
    assert report.number("#search-state") == expected > 3
    assert page.locator(".matches li").count() == expected
    page.locator("#search").blur()
    page.keyboard.press("n")
    first = page.locator("#inspector h3", has_text="op ").inner_text()
    page.keyboard.press("n")
    page.locator("#inspector h3", has_not_text=first).wait_for()
    page.keyboard.press("p")
    page.locator("#inspector h3", has_text=first).wait_for()
    page.locator("#inspector button", has_text="Matches").click()
    assert page.locator(".matches li").count() == expected
    report.go("q=1000")
    page.wait_for_selector("#search-state[data-done]")
    assert page.locator(".matches li").first.inner_text().startswith("op ")
    report.go("q=nowhere-to-be-found")
    page.wait_for_selector("#search-state[data-done]")
    assert "No operation" in page.locator("#search-state").inner_text()
    assert report.complaints == []


def test_all_keys_are_told_on_request(stored: Stored, opened: Open) -> None:
    """The question mark lists them; in a field it is only a question mark."""
    page = opened(stored("valid")).page
    page.locator("[data-filter=key]").fill("")
    page.locator("[data-filter=key]").press("?")
    assert not page.locator("#inspector").is_visible()
    page.locator("[data-filter=key]").fill("")
    page.locator("[data-filter=key]").blur()
    page.keyboard.press("?")
    assert "whole run" in page.locator("#inspector").inner_text()


def test_a_single_key_shows_its_values(stored: Stored, opened: Open) -> None:
    """Once the filter names one key a panel of values is there, and what lies in it leads to its operation."""
    report = opened(stored("stale-read"))
    page = report.page
    before = page.locator("#chart-base").evaluate("(canvas) => canvas.height")
    report.go("t=0.5-5.5&key=x")
    report.drawn()
    assert page.locator("#chart-base").evaluate("(canvas) => canvas.height") > before
    assert page.locator("[data-filter=key]").input_value() == "x"
    assert report.number("#shown-count") == 7
    page.locator("#clear-filters").click()
    report.drawn()
    assert page.locator("#chart-base").evaluate("(canvas) => canvas.height") == before
    report.go("key=y")
    assert report.number("#shown-count") == 8
    assert report.complaints == []


def test_the_command_can_be_copied(stored: Stored, opened: Open) -> None:
    """The button puts the whole command on the clipboard and says so."""
    page = opened(stored("valid")).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """() => {
          const button = document.querySelector("[data-copy=command]");
          const keep = () => (button.dataset.said = `${button.dataset.said ?? ""} ${button.textContent}`);
          new MutationObserver(keep).observe(button, { childList: true });
        }"""
    )  # it says so for a second only
    page.locator("[data-copy=command]").click()
    page.wait_for_selector("[data-copy=command][data-said*=Copied]")
    assert page.evaluate("navigator.clipboard.readText()").startswith("splitvote run register --faults")


def test_the_theme_can_be_switched(stored: Stored, opened: Open) -> None:
    """Light becomes dark, and the chart is drawn anew."""
    report = opened(stored("valid"))
    page, before = report.page, report.picture()
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != colour
    assert report.picture() != before


def test_print_is_light_and_without_tools(stored: Stored, opened: Open) -> None:
    """What needs a pointer is left out on paper, and the page becomes a document that says all it has to say."""
    report = opened(stored("invalid"), scheme="dark")
    page = report.drawn()
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert not page.locator("#theme").is_visible()
    assert page.locator(".banner").is_visible()
    assert len(page.pdf()) > 20_000
    assert report.complaints == []


def test_latency_can_be_counted_from_the_intended_start(stored: Stored, opened: Open) -> None:
    """The panel is drawn anew, on its own scale."""
    report = opened(stored("valid"))
    before = report.picture()
    report.page.locator("#from-intent").check()
    assert report.picture() != before


def test_more_lanes_than_fit_scroll_in_their_panel(stored: Stored, opened: Open) -> None:
    """Only the lanes in sight are drawn; an operation of a hidden lane is brought into sight by its link."""
    report = opened(stored("many-lanes"))
    page = report.page
    scroller = page.locator(".row-scroller")
    assert page.locator("#chart-base").evaluate("(canvas) => canvas.clientHeight") < 1_400
    before = report.picture()
    scroller.evaluate("(box) => { box.scrollTop = 400; box.dispatchEvent(new Event('scroll')); }")
    assert report.picture() != before
    scroller.evaluate("(box) => { box.scrollTop = 0; box.dispatchEvent(new Event('scroll')); }")
    lines = [json.loads(line) for line in (stored("many-lanes") / "history.jsonl").read_text().splitlines()]
    index = next(line["index"] for line in lines if line["process"] == 190)
    report.go(f"op={index}")
    report.drawn()
    assert scroller.evaluate("(box) => box.scrollTop") > 0
    assert report.complaints == []


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


def test_a_million_operations_can_be_moved_filtered_and_opened(stored: Stored, opened: Open) -> None:
    """Everything is drawn at every zoom, filters count right, and any operation opens (how fast: bench/report.py)."""
    report = opened(stored("million"))
    page = report.page
    assert report.number("#shown-count") == 1_000_000
    assert drawn_colours(report) > 20
    page.locator("[data-filter='f:read']").click()
    assert report.number("#shown-count") == 666_666
    whole = report.picture()
    for zoom in ("t=40-60", "t=50-51", "t=50-50.02"):
        report.go(zoom)
        assert report.picture() != whole
        before = report.range_s()
        page.locator("[data-zoom=right]").click()
        assert report.range_s()[0] > before[0]
    place = find_operation(report)
    page.mouse.click(*place)
    page.wait_for_selector("#inspector:not([hidden]) .records")
    report.go("op=1999999")
    assert "1999999" in page.locator("#inspector").inner_text()
    assert report.complaints == []
