"""How fast the report of a million operations is written, opens in Chromium, and moves under the pointer.

Frames are counted while the timeline is moved a little in every frame by the wheel, as a
trackpad does, at several zooms; a bar is missed where fewer than 30 a second are
shown, or where the page takes more than 3 s from opening to its last script's end.
On a machine that others use, too, both are scaled by the share of a core that this
process got meanwhile (1 where it is idle).
Needs the extra ``dev`` and Debian's chromium; says so and measures nothing without.

    python bench/report.py [--operations N]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))

from splitvote.reports import write_report
from tests.reports.large_run import LargeRun

READY_BAR_S: Final = 3.0
FRAMES_BAR: Final = 30.0
ZOOMS: Final = (1.0, 0.6, 0.2, 0.05, 0.01, 0.001)
"""The share of the run in view."""

FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")

_MOVE: Final = """async (steps) => {
  const chart = document.getElementById("chart");
  const box = chart.getBoundingClientRect();
  const frame = () => new Promise(requestAnimationFrame);
  const wheel = (deltaX) => chart.dispatchEvent(
    new WheelEvent("wheel", {deltaX, clientX: box.left + 500, clientY: box.top + 300, cancelable: true}));
  await frame();
  const started = performance.now();
  let slowest = 0, before = started;
  for (let step = 0; step < steps; step++) {
    wheel(step < steps / 2 ? 9 : -9);
    await frame();
    const now = performance.now();
    slowest = Math.max(slowest, now - before);
    before = now;
  }
  return [steps * 1e3 / (performance.now() - started), slowest];
}"""


def share_of_core() -> float:
    """How much of a core a process gets at present, by a fixed piece of work."""
    started, busy = time.perf_counter(), time.process_time()
    total = 0
    for number in range(4_000_000):
        total += number & 7
    return min(1.0, (time.process_time() - busy) / (time.perf_counter() - started))


def measure(report: Path, chromium: str) -> bool:
    """Open the page, move it about, print what was seen; whether every bar was met."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(180_000)
        share = share_of_core()
        page.goto(report.as_uri())
        page.wait_for_selector("body[data-ready]")
        ready_s = float(page.evaluate("Number(document.body.dataset.ready) / 1e3"))
        share = (share + share_of_core()) / 2
        is_met = ready_s * share <= READY_BAR_S
        scaled = f"scaled {ready_s * share:.2f}, bar {READY_BAR_S}"
        print(f"interactive after {ready_s:.2f} s ({scaled}; {share:.0%} of a core)  {'ok' if is_met else 'MISSED'}")
        length_s = float(page.evaluate("Number(document.getElementById('chart').dataset.endMs) / 1e3"))
        page.locator("#chart").scroll_into_view_if_needed()
        for zoom in ZOOMS:
            is_met &= _move_at(page, length_s, zoom)
        browser.close()
    return is_met


def _move_at(page: Any, length_s: float, zoom: float) -> bool:
    first = length_s * (1 - zoom) / 2
    page.evaluate(f"location.hash = 't={first}-{first + length_s * zoom}'")
    page.wait_for_selector("#chart[data-drawn=yes]")
    share = share_of_core()
    frames, slowest_ms = page.evaluate(_MOVE, 90)
    share = (share + share_of_core()) / 2
    is_met = bool(frames / share >= FRAMES_BAR)
    scaled = f"scaled {frames / share:.0f}, bar {FRAMES_BAR:g}; {share:.0%} of a core"
    told = f"{frames:5.1f} frames/s ({scaled}), slowest {slowest_ms:.0f} ms"
    print(f"{zoom:7.1%} in view: {told}  {'ok' if is_met else 'MISSED'}")
    return is_met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on PATH, so nothing is measured: install Debian's package chromium")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        run = LargeRun(operations=options.operations).write(Path(scratch) / "register" / "large")
        started = time.process_time()
        report = write_report(run)
        print(f"written in {time.process_time() - started:.1f} s of CPU, {report.stat().st_size / 1e6:.1f} MB")
        return 0 if measure(report, chromium) else 1


if __name__ == "__main__":
    sys.exit(main())
