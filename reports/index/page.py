"""The index of a store and its page for comparing two runs: the same whether written into the store or served.

Both pages carry all entries, packed, since a page opened as a file may fetch
nothing; the browser filters, counts and draws (``web/index-*.js``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from splitvote.harness.errors import EnvironmentFailure
from splitvote.reports.embedding import embed_json
from splitvote.reports.index.scanning import Scanner, StoreIndex
from splitvote.reports.templating import Script, environment, joined
from splitvote.reports.wording import plain

PAGES: Final = ("index.html", "compare.html")

_STYLES: Final = ("page.css", "index.css")
_FIRST_SCRIPTS: Final = ("theme.js",)
_SHARED_SCRIPTS: Final = ("data.js", "index-runs.js")
_SCRIPTS: Final = {
    "index.html": (*_SHARED_SCRIPTS, "index-filters.js", "index-trends.js", "index-table.js", "index-main.js"),
    "compare.html": (*_SHARED_SCRIPTS, "compare.js"),
}


@dataclass(frozen=True, slots=True)
class Written:
    """What ``write_index`` did: the index page, and how many runs it lists."""

    path: Path
    runs: int


def write_index(store: Path) -> Written:
    """Write a store's index.html and compare.html into the store.

    Raises ConfigError when there is no such store, EnvironmentFailure when it
    cannot be written to.
    """
    index = Scanner(store).scan()
    for name in PAGES:
        path = store / name
        unfinished = store / f".{name}.unfinished"
        try:
            unfinished.write_text(render(name, index, store=store, is_served=False), encoding="utf-8", newline="\n")
            unfinished.replace(path)
        except OSError as failure:
            with suppress(OSError):
                unfinished.unlink()
            raise EnvironmentFailure(
                f"cannot write {path}: {failure.strerror}; `splitvote serve {store}` needs no room there"
            ) from failure
    return Written(store / PAGES[0], len(index.runs))


def render(name: str, index: StoreIndex, *, store: Path, is_served: bool, now: datetime | None = None) -> str:
    """One of PAGES as text; a served page offers what only a server can (zips)."""
    data: dict[str, Any] = {"runs": index.runs, "problems": index.problems, "served": is_served}
    html: str = (
        environment()
        .get_template(name)
        .render(
            styles=joined(_STYLES),
            scripts=[Script.of(_FIRST_SCRIPTS), Script.of(_SCRIPTS[name])],
            embedded=embed_json("index", data),
            store=plain(store.resolve().name.encode(errors="replace").decode(), 200),
            problems=index.problems,
            made_at=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
            is_served=is_served,
        )
    )
    return html
