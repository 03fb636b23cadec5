"""The index and the comparison in Chromium: search, filters, trends, keys, two runs, offline and served."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from splitvote.harness.result import Anomaly, Verdict
from splitvote.reports.index import write_index
from splitvote.reports.index.serving import StoreServer
from tests.reports.conftest import PATIENCE_MS, OpenedPage
from tests.reports.nightly_stores import hostile, lost_write, night, nights

pytestmark = pytest.mark.browser

Open = Callable[..., OpenedPage]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many nights of five tests, with the static pages."""
    store = nights(tmp_path_factory.mktemp("nightly") / "store")
    write_index(store)
    return store


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens an address, with every request but for files and this machine refused, and all of them noted."""
    contexts = []

    def open_page(address: str, *, width: int = 1280, scheme: str = "light") -> OpenedPage:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        opened = OpenedPage(context.new_page())
        opened.page.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        context.route(
            lambda url: not url.startswith(("file:", "data:", "http://127.0.0.1:")), lambda route: route.abort()
        )
        opened.page.goto(address)
        opened.page.wait_for_selector("body[data-ready]")
        return opened

    yield open_page
    for context in contexts:
        context.close()


def index_of(store: Path, query: str = "") -> str:
    return (store / "index.html").as_uri() + query


def rows(page: Any) -> list[str]:
    """The runs that the table shows, in its order."""
    return list(page.eval_on_selector_all("#rows tbody tr", "rows => rows.map(row => row.dataset.run)"))


def until_title(page: Any, title: str) -> None:
    """Wait for a page of another kind: those of a store forbid eval, on which wait_for_function stands."""
    from playwright.sync_api import expect

    expect(page).to_have_title(title, timeout=PATIENCE_MS)


def until_address(page: Any, end: str) -> None:
    """Wait for an address that ends so: Playwright hears of one that a page gives itself some time after."""
    page.wait_for_url(lambda url: url.endswith(end))


def trend(page: Any, test: str) -> Any:
    return page.locator(f"#trends tr[data-test={json.dumps(test)}]")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1920, "dark")])
def test_pages_open_offline_without_a_complaint(store: Path, opened: Open, width: int, scheme: str) -> None:
    """No console error, no request but for the file itself, no sideways scrolling, in the theme that is preferred."""
    for address in (index_of(store), (store / "compare.html").as_uri() + comparing(store)):
        found = opened(address, width=width, scheme=scheme)
        assert found.complaints == []
        assert [url for url in found.requests if not url.startswith("data:")] == [address]
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        assert found.page.evaluate("document.documentElement.dataset.theme") == scheme
        for panel in found.page.locator(".panel").all():
            assert panel.evaluate("panel => panel.scrollWidth - panel.clientWidth") <= 0


def comparing(store: Path) -> str:
    runs = sorted(path.name for path in (store / "kv").iterdir() if not path.is_symlink())
    return f"?a=kv/{runs[3]}&b=kv/{runs[5]}"


def test_the_banner_says_what_is_bad_and_since_when(store: Path, opened: Open) -> None:
    """Bad since its sixth night is kv; the link compares with the last good one, four nights in."""
    page = opened(index_of(store)).page
    said = page.locator("#now").inner_text()
    assert "1 test of 5 is bad" in said
    assert "kv since 2026-03-06 02:30 (4 runs): Lost write known: 13766" in said
    link = page.locator("#now").get_by_text("compare with the last good").get_attribute("href")
    assert re.fullmatch(r"compare\.html\?a=kv%2F20260304T023000-3&b=kv%2F20260306T023000-5", link)


def test_a_test_tells_its_nights(store: Path, opened: Open) -> None:
    """Strip, first bad night, what was new with it, flips, and the same seed with another verdict."""
    page = opened(index_of(store)).page
    kinds = "cells => cells.map(cell => cell.className)"
    strip = trend(page, "kv").locator(".nights a")
    assert strip.evaluate_all(kinds) == ["valid"] * 4 + ["unknown"] + ["invalid"] * 4
    said = trend(page, "kv").inner_text()
    assert "bad since 2026-03-06 02:30, 4 runs; etcd 3.5.30 → etcd 3.5.1" in said
    assert "1 flip in 8" in said
    assert "28.0 ms" in said
    flaky = trend(page, "flaky").inner_text()
    assert "6 flips in 9" in flaky
    assert "last bad 2026-03-08 02:30, 1 good run since" in flaky
    assert "same seed, other verdict" in flaky
    assert "same seed" not in said
    assert trend(page, "unsafe").locator(".nights a").evaluate_all(kinds) == ["expected"]
    assert trend(page, "unsafe").inner_text().rstrip().endswith("none")
    assert trend(page, "kv").locator("svg circle.odd").count() == 8


def test_what_is_open_neither_begins_nor_ends_a_bad_stretch(tmp_path: Path, opened: Open) -> None:
    """UNKNOWN between the last good and the first bad night is passed over; UNKNOWN at the end mends nothing."""
    for number, verdict in enumerate(["VALID", "UNKNOWN", "INVALID", "UNKNOWN"]):
        night(tmp_path, "kv", number, Verdict(verdict), anomalies=(lost_write(),) if verdict == "INVALID" else ())
    night(tmp_path, "torn", 1, Verdict.VALID, results={"failure": "OSError: full"})
    write_index(tmp_path)
    page = opened(index_of(tmp_path)).page
    assert "bad since 2026-03-03 02:30, 1 run" in trend(page, "kv").inner_text()
    assert "1 flip in 2" in trend(page, "kv").inner_text()
    assert "none decided" in trend(page, "torn").inner_text()
    assert "HARNESS FAILED" in trend(page, "torn").inner_text()


def test_search_narrows_down_by_any_word(store: Path, opened: Open) -> None:
    """Test, seed, version, anomaly, known issue and verdict; words are joined by and; the address keeps them."""
    page = opened(index_of(store)).page
    everything = rows(page)
    assert len(everything) == 29
    for text, found in (("13766", 4), ("lost write", 5), ("3.5.1 seed:6", 1), ("unsafe", 1), ("nothing-such", 0)):
        page.locator("#search").fill(text)
        assert len(rows(page)) == found, text
        assert f"{found} of 29 runs" in page.locator("#runs h2").inner_text()
    until_address(page, "index.html?q=nothing-such")
    page.locator("#clear").click()
    assert rows(page) == everything
    until_address(page, "index.html")


def test_filters_narrow_down_and_a_link_repeats_them(store: Path, opened: Open) -> None:
    """Verdicts narrow the table and not the trends; test, version and fault narrow both."""
    page = opened(index_of(store)).page
    page.locator("#kinds button", has_text=re.compile(r"✕ INVALID\s*4")).click()
    assert len(rows(page)) == 4
    assert trend(page, "steady").count() == 1
    page.locator("#filter-test").select_option("kv")
    assert page.locator("#trends tbody tr").count() == 1
    page.locator("#filter-version").select_option("etcd 3.5.30")
    assert rows(page) == []
    assert "none" in trend(page, "kv").inner_text()
    again = opened(page.evaluate("location.href")).page
    assert again.locator("#filter-version").input_value() == "etcd 3.5.30"
    assert again.locator("#kinds button[aria-pressed=true]").inner_text().startswith("✕ INVALID")
    again.locator("#kinds button[aria-pressed=true]").click()
    assert len(rows(again)) == 5
    again.locator("#clear").click()
    again.locator("#trends a", has_text="steady").click()
    again.locator("nav a", has_text="Tests").click()
    assert {run.partition("/")[0] for run in rows(again)} == {"steady"}
    until_address(again, "?test=steady#tests")


def test_the_table_is_sorted_by_its_heads(store: Path, opened: Open) -> None:
    """The newest first, then by whatever head is pressed, and the other way when pressed again."""
    page = opened(index_of(store, "?test=kv")).page
    newest = rows(page)
    assert newest[0] == "kv/20260309T023000-8"
    head = page.locator("#rows th", has_text="p99")
    for order in ("descending", "ascending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        assert rows(page) == (newest if order == "descending" else newest[::-1])


def test_two_runs_are_chosen_and_compared(store: Path, opened: Open) -> None:
    """The third choice replaces the first; the older run becomes A."""
    page = opened(index_of(store, "?test=kv")).page
    boxes = page.locator("#rows input[type=checkbox]")
    assert page.locator("#chosen").is_hidden()
    boxes.nth(0).check()
    assert "choose a second" in page.locator("#chosen").inner_text()
    boxes.nth(1).check()
    boxes.nth(8).check()
    assert not boxes.nth(0).is_checked()
    page.locator("#compare").click()
    page.wait_for_selector("#comparison table")
    shown = page.eval_on_selector_all("#sides .panel", "panels => panels.map(panel => panel.dataset.run)")
    assert shown == ["kv/20260301T023000-0", "kv/20260308T023000-7"]


def test_keys_do_everything_without_the_mouse(store: Path, opened: Open) -> None:
    """Search, step through the runs, choose two and compare them; then open a report."""
    page = opened(index_of(store)).page
    page.keyboard.press("/")
    page.keyboard.type("steady")
    page.keyboard.press("Escape")
    for key in ("j", "x", "j", "x", "j", "k"):
        page.keyboard.press(key)
    assert page.locator("#rows input:checked").count() == 2
    page.keyboard.press("?")
    assert page.locator("#keys").get_attribute("open") is not None
    page.keyboard.press("Escape")
    assert page.locator("#chosen").is_hidden()
    for key in ("k", "x", "j", "x", "c"):
        page.keyboard.press(key)
    page.wait_for_url("**/compare.html?*")
    page.go_back()
    page.wait_for_selector("body[data-ready]")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/steady/20260309T023000-8/report.html")


def test_a_comparison_shows_what_differs(store: Path, opened: Open) -> None:
    """Verdicts, anomalies, settings and figures side by side; only what differs, when asked for; sides swap."""
    page = opened((store / "compare.html").as_uri() + comparing(store)).page
    table = page.locator("#comparison").inner_text()
    for text in ("the run", "Lost write", "etcd 3.5.1", "p99", "kill, proven", "time to recover, max"):
        assert text in table
    odd = page.eval_on_selector_all("#comparison tr.odd td:first-child", "cells => cells.map(c => c.textContent)")
    assert odd == ["the run", "kv", "kv: why", "Lost write", "known issues", "versions", "seed", "command"]
    page.locator("#differences").check()
    assert page.locator("#comparison tbody tr").count() == len(odd)
    assert page.locator("#amount").inner_text() == "8 lines differ"
    page.locator("#swap").click()
    page.wait_for_selector("#sides .panel:first-child[data-run$='-5']")
    page.get_by_text("the run after").first.click()
    page.wait_for_selector("#sides .panel:first-child[data-run$='-6']")


def test_a_comparison_of_what_is_not_there_says_so(store: Path, opened: Open) -> None:
    """Without runs, or with one that was pruned: words and a way back, no error."""
    for query, said in (("", "No run was chosen"), ("?a=kv/gone&b=<img>", "There is no run kv/gone")):
        found = opened((store / "compare.html").as_uri() + query)
        assert said in found.page.locator("#sides").inner_text()
        assert found.complaints == []
        found.page.get_by_text("Choose two in the index").first.click()
        found.page.wait_for_selector("#rows tbody tr")


def test_hostile_values_are_shown_and_never_run(tmp_path: Path, opened: Open) -> None:
    """Every name an attack: nothing of it runs, everything of it is readable, links lead to the runs."""
    store = hostile(tmp_path)
    write_index(store)
    found = opened(index_of(store))
    page = found.page
    assert page.evaluate("window.pwned") is None
    assert "<script>window.pwned = 1</script>" in page.locator("#rows").inner_text()
    assert page.locator("#rows img, #trends img, #rows script").count() == 0
    assert "results.json cannot be read" in page.locator("#rows").inner_text()
    assert "\u202e" not in page.locator("main").inner_text()
    runs = [run for run in rows(page) if not run.startswith("garbage")]
    for a, b in ((runs[0], runs[-1]), (runs[1], runs[-2])):
        other = opened((store / "compare.html").as_uri() + f"?a={quote(a)}&b={quote(b)}")
        other.page.wait_for_selector("#comparison table")
        assert other.complaints == []
        assert other.page.evaluate("window.pwned") is None
        assert other.page.locator("#comparison img").count() == 0
    page.locator("#rows a", has_text="report").first.click()
    until_title(page, "the report")
    assert found.complaints == []


def test_thousands_of_runs_are_shown_a_page_at_a_time(tmp_path: Path, opened: Open) -> None:
    """3,000 runs: a page of rows at a time, more when asked for; the search looks at all; the file stays small."""
    original = night(tmp_path, "kv", 0, Verdict.INVALID, anomalies=tuple(Anomaly(f"a{n}", "s") for n in range(5)))
    config, results = original.config.read_bytes(), original.results.read_bytes()
    for number in range(1, 3_000):
        copy = tmp_path / f"test-{number % 30}" / f"20260302T000000-{number}"
        copy.mkdir(parents=True)
        (copy / "config.json").write_bytes(config)
        (copy / "results.json").write_bytes(results)
    assert write_index(tmp_path).path.stat().st_size < 1_000_000
    page = opened(index_of(tmp_path)).page
    assert len(rows(page)) == 150
    page.locator("#more").click()
    assert len(rows(page)) == 300
    page.locator("#search").fill("test-7 seed")
    assert "100 of 3,000 runs" in page.locator("#runs h2").inner_text()
    assert page.locator("#more").is_hidden()


@pytest.fixture
def server(store: Path) -> Iterator[StoreServer]:
    with StoreServer(store, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_served_store_is_the_same_and_has_zips(server: StoreServer, opened: Open, tmp_path: Path) -> None:
    """The same page from a server: its links lead to reports, logs and zips, and it asks nobody else for anything."""
    found = opened(server.url)
    page = found.page
    assert len(rows(page)) == 29
    first = page.locator("#rows tbody tr", has_text="steady").first
    with page.expect_download() as download:
        first.get_by_text("zip").click()
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    assert re.fullmatch(r"steady-\d{8}T\d{6}-8\.zip", saved.name)
    first.get_by_text("logs").click()
    page.get_by_text("n1.log").click()
    page.get_by_text("a line").wait_for()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    page.locator("#rows tbody tr a", has_text="report").first.click()
    until_title(page, "the report")
    assert [url for url in found.requests if not url.startswith((server.url, "data:"))] == []
    assert [said for said in found.complaints if "favicon" not in said] == []
