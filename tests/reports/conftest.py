"""Runs to report on, and a Chromium in which nothing may reach the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.result import Verdict
from splitvote.reports import write_report
from tests.reports.fake_runs import FakeRun

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
    runs = {
        "valid": FakeRun(),
        "invalid": FakeRun(seed=11, verdict=Verdict.INVALID),
        "unknown": FakeRun(seed=3, verdict=Verdict.UNKNOWN, seconds=20),
        "hostile": FakeRun(seed=5, hostile=True, verdict=Verdict.INVALID, seconds=30),
    }
    written: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in written:
            written[name] = runs[name].write(tmp_path_factory.mktemp(name) / "register" / name)
            write_report(written[name])
        return written[name]

    return find


@dataclass
class OpenedPage:
    """A page with everything it complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def number(self, selector: str) -> int:
        """The first number in an element's text."""
        text = self.page.locator(selector).inner_text().replace(",", "")
        return int(next(word for word in text.split() if word.isdigit()))


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="the extra dev has playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., OpenedPage]]:
    """Opens a report as a file, with every request that is none of a file refused and noted."""
    contexts = []

    def open_page(run: Path, fragment: str = "", *, width: int = 1280, scheme: str = "light") -> OpenedPage:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
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
