"""Runs to report on, and a Chromium in which nothing may reach the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.result import Verdict
from splitvote.reports import write_report
from tests.reports import judged_runs
from tests.reports.fake_runs import FakeRun
from tests.reports.large_run import LargeRun

PATIENCE_MS = 180_000
"""How long to wait for what must come: a machine may be shared with ten others."""

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directories of fake runs by name, with their reports written once."""
    runs: dict[str, Callable[[Path], Path]] = {
        "valid": lambda path: FakeRun().write(path),
        "invalid": lambda path: FakeRun(seed=11, verdict=Verdict.INVALID).write(path),
        "unknown": lambda path: FakeRun(seed=3, verdict=Verdict.UNKNOWN, seconds=20).write(path),
        "hostile": lambda path: FakeRun(seed=5, hostile=True, verdict=Verdict.INVALID, seconds=30).write(path),
        "million": lambda path: LargeRun(operations=1_000_000).write(path),
        "many-lanes": lambda path: LargeRun(operations=4_000, threads=200, rate=1_000).write(path),
        **judged_runs.RUNS,
    }
    written: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in written:
            written[name] = runs[name](tmp_path_factory.mktemp(name) / "test" / name)
            write_report(written[name])
        return written[name]

    return find


@dataclass
class OpenedPage:
    """A page with everything it complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def drawn(self) -> Any:
        """The page, once its chart shows all that was asked for."""
        self.page.wait_for_selector("#chart[data-drawn=yes]")
        return self.page

    def number(self, selector: str) -> int:
        """The first number in an element's text, once the chart is drawn."""
        text = self.drawn().locator(selector).inner_text().replace(",", "")
        return int(next(word for word in text.split() if word.isdigit()))

    def range_s(self) -> tuple[float, float]:
        """The seconds that the timeline says it shows, once it is drawn."""
        found = re.findall(r"(-?[\d.]+) s", self.drawn().locator("#range").inner_text())
        return float(found[0]), float(found[1])

    def go(self, fragment: str) -> None:
        """Follow a link within the page until it is followed."""
        self.page.evaluate("document.body.removeAttribute('data-followed')")
        self.page.evaluate(f"location.hash = {json.dumps(fragment)}")
        self.page.wait_for_selector("body[data-followed]")

    def picture(self) -> str:
        """What the chart shows, as text that differs where a pixel does."""
        return str(self.drawn().evaluate("document.getElementById('chart-base').toDataURL()"))


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium; no longer than a module needs it, for its event loop runs on in this thread meanwhile."""
    api = pytest.importorskip("playwright.sync_api", reason="the extra dev has playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., OpenedPage]]:
    """Opens a report as a file, with every request that is none of a file refused and noted."""
    contexts = []

    def open_page(run: Path, fragment: str = "", *, width: int = 1280, scheme: str = "light") -> OpenedPage:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        opened = OpenedPage(context.new_page())
        opened.page.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        context.route(lambda url: not url.startswith(("file:", "data:")), lambda route: route.abort())
        opened.page.goto((run / "report.html").as_uri() + fragment)
        opened.page.wait_for_selector("body[data-ready]")
        return opened

    yield open_page
    for context in contexts:
        context.close()
