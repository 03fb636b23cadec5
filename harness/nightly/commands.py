"""The command line of nights: ``splitvote nightly`` and ``splitvote summary``."""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from splitvote.harness.errors import ConfigError, unknown

if TYPE_CHECKING:
    from splitvote.harness.nightly.night import Night
    from splitvote.harness.nightly.plan import Wish

OPEN: Final = "open"
_SEED_BITS: Final = 31
_UNITS_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_STORE: Final = click.Path(path_type=Path, file_okay=False)


class _Span(click.ParamType[float]):
    """A length of time: 90, 90s, 20m or 2h."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, at least one."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        span_s = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
        if span_s < 1:
            self.fail(f"{value!r} is no length of time: write 90, 90s, 20m or 2h", param, ctx)
        return span_s


@click.command()
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="All runs' seeds come from it; random when not given.")
@click.option("--budget", "budget_s", type=_Span(), default="60m", show_default=True, help="As 90s, 20m or 2h.")
@click.option("--time", "time_s", type=_Span(), help="Load of each run; by the budget (20 s to 5 min) when not given.")
@click.option("--cluster", default="local", show_default=True, help="As `splitvote run` has it.")
@click.option("--control", help="How nodes of --cluster compose are reached: ssh or docker.")
@click.option("--faults", default="all", show_default=True, help="As `splitvote run` has it.")
@click.option("--avoid", default=OPEN, show_default=True, help="ISSUE,... or open: all that are open; '' for none.")
@click.option("--rate", type=click.FloatRange(0.1), default=200.0, show_default=True, help="Operations a second.")
@click.option("--concurrency", type=click.IntRange(1, 4096), default=20, show_default=True, help="Client threads.")
@click.option("--etcd", multiple=True, metavar="[NODE=]PATH", help="The etcd binary; for one node: n1=PATH.")
@click.option("--upgrade", multiple=True, metavar="PATH", help="Another etcd for the faults of the family version.")
@click.option("--run-arg", "run_args", multiple=True, metavar="FLAG", help="Any other flag of `splitvote run`.")
@click.option("--store", type=_STORE, default=Path("store"), show_default=True)
@click.option("--summary", type=click.Path(path_type=Path, dir_okay=False), help="Append the verdicts as Markdown.")
@click.option("--dry-run", is_flag=True, help="Print the runs that every night of this length has, and run nothing.")
def nightly(workloads: tuple[str, ...], summary: Path | None, dry_run: bool, **given: Any) -> None:
    """Run WORKLOADs one after another under all faults for a time, all seeds from one, and tell every verdict.

    Each is run once at least, by `splitvote run`: kv+watch+election+lease, register and append, if none is named.
    Exits with 1 where any run is INVALID, before all else; then 130 (interrupted), 64 (a run was refused),
    3 (our own side failed), 2 (UNKNOWN), 4 (SLO_MISSED), 0.
    """
    from splitvote.harness.nightly.night import Night

    wish = _wish(workloads, given)
    _say_plan(wish)
    if dry_run:
        return
    night = Night(wish, click.echo)
    code = night.run()
    _say_verdicts(night, summary)
    sys.exit(code)


def _wish(workloads: tuple[str, ...], given: dict[str, Any]) -> Wish:
    from splitvote.harness.nightly.plan import WORKLOADS, Wish
    from splitvote.workloads import NAMES

    for name in (name for workload in workloads for name in workload.split("+")):
        if name not in NAMES:
            raise ConfigError(unknown("workload", name, NAMES))
    seed = secrets.randbits(_SEED_BITS) if given["seed"] is None else given["seed"]
    return Wish(
        seed=seed,
        workloads=workloads or WORKLOADS,
        budget_s=given["budget_s"],
        time_s=given["time_s"],
        run_options=_run_options(given),
        store=given["store"],
    )


def _run_options(given: dict[str, Any]) -> tuple[str, ...]:
    """The words of `splitvote run` that all runs share."""
    from splitvote.checkers.known_issues import AVOIDABLE

    avoid = ",".join(AVOIDABLE) if given["avoid"] == OPEN else given["avoid"]
    words = ["--cluster", given["cluster"], "--rate", f"{given['rate']:g}", "--concurrency", str(given["concurrency"])]
    for flag, value in (("--control", given["control"]), ("--faults", given["faults"]), ("--avoid", avoid)):
        words += [flag, value] if value else []
    for flag, values in (("--etcd", given["etcd"]), ("--upgrade", given["upgrade"])):
        words += [word for value in values for word in (flag, value)]
    return (*words, *given["run_args"])


def _say_plan(wish: Wish) -> None:
    """The seeds before anything happens: the night's own, then those of its first runs, in their commands."""
    import shlex
    from itertools import islice

    from splitvote.harness.nightly.plan import planned_runs

    click.echo(f"seed {wish.seed}")
    click.echo(f"{wish.budget_s:g} s: runs of {wish.load_s:g} s of load, these, and more while time is left")
    for planned in islice(planned_runs(wish), len(wish.workloads)):
        click.echo(f"  run {planned.number + 1}: {shlex.join(('splitvote', *planned.command))}")


def _say_verdicts(night: Night, summary: Path | None) -> None:
    from splitvote.harness.nightly.verdicts import rows_of_attempts
    from splitvote.reports import append_markdown, verdict_markdown, verdict_text

    rows = rows_of_attempts(night.wish.store, night.attempts)
    click.echo(f"\nseed {night.wish.seed}")
    click.echo(verdict_text(rows, night.wish.store), nl=False)
    if summary is not None:
        click.echo(f"summary: {append_markdown(verdict_markdown(rows), summary)}")


@click.command()
@click.argument("store", metavar="[STORE]", default=Path("store"), type=_STORE)
@click.option("--latest-night", is_flag=True, help="Only what the latest `splitvote nightly` tried.")
@click.option("--markdown", "is_markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "--append",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append Markdown to this file, such as $GITHUB_STEP_SUMMARY, instead of printing.",
)
def summary(store: Path, latest_night: bool, is_markdown: bool, output: Path | None) -> None:
    """Tell the verdicts of all runs of STORE in one table, the worst first, each with the command that repeats it."""
    from splitvote.harness.nightly.verdicts import rows_of_night, rows_of_store
    from splitvote.reports import append_markdown, verdict_markdown, verdict_text

    rows = rows_of_night(store) if latest_night else rows_of_store(store)
    if output is not None:
        click.echo(append_markdown(verdict_markdown(rows), output))
    else:
        click.echo(verdict_markdown(rows) if is_markdown else verdict_text(rows, store), nl=False)
