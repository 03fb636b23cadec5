"""Pictures of reports for the documentation, taken in Chromium.

    python docs/screenshots.py RUN IMAGE [--part PART] [--scheme light|dark] [--width N] [--fragment t=1-2]
    python docs/screenshots.py --all AGREEMENT HEALTHY SLOW STALE_READ LOST_APPEND
    python docs/screenshots.py --index STORE

The second form makes every picture of docs/images that the pages show; docs/report-cases.md
has the commands that made the runs.  The third makes those of a store's index, which
``splitvote index STORE`` wrote.  Needs the extra ``dev`` and Debian's chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import sync_playwright

IMAGES: Final = Path(__file__).parent / "images"
PARTS: Final = {
    "head": "",
    "timeline": "#timeline",
    "card": ".card",
    "faults": "#faults",
    "availability": "#availability",
}
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: of which part of a report, how wide, in which theme, after which link was followed."""

    image: Path
    part: str = "head"
    scheme: str = "light"
    width: int = 1280
    fragment: str = ""


RUNS: Final = ("agreement", "healthy", "slow", "stale_read", "lost_append")
ALL: Final = {
    "agreement": (Shot(IMAGES / "report-invalid.png"), Shot(IMAGES / "case-agreement-card.png", "card", "dark")),
    "healthy": (
        Shot(IMAGES / "report-valid.png"),
        Shot(IMAGES / "report-timeline.png", "timeline"),
    ),
    "slow": (Shot(IMAGES / "report-availability.png", "availability"),),
    "stale_read": (Shot(IMAGES / "case-stale-read.png"), Shot(IMAGES / "case-stale-read-card.png", "card")),
    "lost_append": (Shot(IMAGES / "case-lost-append.png"), Shot(IMAGES / "case-lost-append-card.png", "card")),
}
"""The pictures of each run that the documentation speaks of."""


def take_index(browser: Any, store: Path, image: Path) -> None:
    """Open a store's index and take the picture of its top."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((store / "index.html").resolve().as_uri())
    page.wait_for_selector("body[data-ready]")
    page.screenshot(path=image)
    page.close()
    print(image)


def take(browser: Any, run: Path, shot: Shot) -> None:
    """Open the run's report and take the picture."""
    page = browser.new_page(viewport={"width": shot.width, "height": 900}, color_scheme=shot.scheme)
    fragment = f"#{shot.fragment}" if shot.fragment else ""
    page.goto((run / "report.html").resolve().as_uri() + fragment)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#chart[data-drawn=yes]")
    page.add_style_tag(content=".bar { position: static; }")  # or it lies over what is taller than the window
    shot.image.parent.mkdir(parents=True, exist_ok=True)
    if PARTS[shot.part]:
        page.locator(PARTS[shot.part]).first.screenshot(path=shot.image)
    else:
        page.screenshot(path=shot.image)
    page.close()
    print(shot.image)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="RUN IMAGE")
    parser.add_argument("--all", action="store_true", help="All pictures of the documentation, of these five runs.")
    parser.add_argument("--index", action="store_true", help="The picture of this store's index.")
    parser.add_argument("--part", choices=PARTS, default="head")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--fragment", default="")
    options = parser.parse_args()
    wanted = RUNS if options.all else ("a store",) if options.index else ("a run's directory", "the image's path")
    if len(options.paths) != len(wanted):
        parser.error(f"give {', '.join(wanted)}")
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on PATH: install Debian's package chromium", file=sys.stderr)
        return 3
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        if options.index:
            take_index(browser, options.paths[0], IMAGES / "store-index.png")
        elif options.all:
            for name, run in zip(RUNS, options.paths, strict=True):
                for shot in ALL[name]:
                    take(browser, run, shot)
        else:
            run, image = options.paths
            take(browser, run, Shot(image, options.part, options.scheme, options.width, options.fragment))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
