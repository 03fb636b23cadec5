"""Pictures of reports for the documentation, taken in Chromium.

    python docs/screenshots.py RUN IMAGE [--part head|timeline|anomalies|faults] [--scheme light|dark]

RUN is a run's directory with its report.html.  Needs the extra ``dev`` and Debian's chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SELECTORS = {"head": None, "timeline": "#timeline", "anomalies": "#anomalies", "faults": "#faults"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> int:
    """Take one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--part", choices=SELECTORS, default="head")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, default=1280)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on PATH: install Debian's package chromium", file=sys.stderr)
        return 3
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": options.width, "height": 820}, color_scheme=options.scheme)
        page.goto((options.run / "report.html").resolve().as_uri())
        page.wait_for_function("document.querySelector('canvas') !== null")
        page.wait_for_load_state("networkidle")
        selector = SELECTORS[options.part]
        if selector is None:
            page.screenshot(path=options.image)
        else:
            page.locator(selector).screenshot(path=options.image)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
