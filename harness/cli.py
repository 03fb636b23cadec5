"""The command line: ``splitvote run``, ``check``, ``report``, ``export``, ``zip``, ``index``, ``serve``, ``heal`` ...

Everything heavy is imported by the command that needs it, so that ``--help``
answers at once.  Our own errors are one line on stderr and an exit code; a
cluster's misbehaviour is a verdict (see ``splitvote.harness.result``).
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from splitvote import __version__
from splitvote.harness import node_commands
from splitvote.harness.errors import INTERRUPTED_EXIT, ConfigError, SplitvoteError, unknown
from splitvote.harness.nightly.commands import nightly, summary

if TYPE_CHECKING:
    from splitvote.harness.exploration import Until
    from splitvote.harness.seeds import Keep

F = TypeVar("F", bound=Callable[..., Any])

USAGE_EXIT: Final = 64
CLUSTERS: Final = ("local", "netns", "compose", "ssh", "attach", "sim")
CONTROLS: Final = ("ssh", "docker")
EXPORTS: Final = ("edn", "jsonl", "parquet")
LISTS: Final = ("all", "workloads", "faults", "clusters", "models", "checkers", "mutants")


class _Commands(click.Group):
    """Suggests the nearest command for a misspelt one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or fail naming the nearest."""
        if args and self.get_command(ctx, args[0]) is None:
            raise ConfigError(unknown("command", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


class _Name(click.ParamType[str]):
    """One of a few names, with a suggestion when misspelt; they are asked for when one is given."""

    def __init__(self, what: str, known: Callable[[], Sequence[str]]) -> None:
        self.name = what
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept a known name only."""
        known = self._known()
        if value not in known:
            self.fail(unknown(self.name, str(value), known), param, ctx)
        return str(value)


class _Names(_Name):
    """Names joined by plus signs, each one of a few."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept known names only."""
        return "+".join(super(_Names, self).convert(name, param, ctx) for name in str(value).split("+"))


def _workloads() -> Sequence[str]:
    from splitvote.workloads import NAMES

    return NAMES


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="splitvote")
def cli() -> None:
    """Hurt a cluster while clients use it, and judge whether what they saw is consistent."""


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Make a TOML file's entries the defaults of the options; unknown entries are errors."""
    if path is None:
        return None
    try:
        entries = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"--config {path}: {problem}") from None
    known = {option.name: option for option in ctx.command.params if option.name}
    defaults = {}
    for name, value in entries.items():
        option = known.get(name.replace("-", "_"))
        if option is None or option.name == "config":
            raise ConfigError(f"--config {path}: " + unknown("entry", name, sorted(known)))
        defaults[option.name] = ",".join(map(str, value)) if isinstance(value, list) and not option.multiple else value
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _check_slos(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what is no service level before anything runs."""
    from splitvote.checkers.slo import parse_slo

    for slo in given:
        parse_slo(slo)
    return given


_JUNIT: Final = click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML to this file."
)
_SUMMARY: Final = click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append a Markdown summary to this file, such as $GITHUB_STEP_SUMMARY.",
)


def _with(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Put options on a command in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_LOAD: Final = (
    click.option("--nodes", type=click.IntRange(1, 9), default=5, show_default=True, help="Members of the cluster."),
    click.option("--faults", default="", help="Families of faults, comma-separated (`splitvote list faults`), or all."),
    click.option("--rate", type=click.FloatRange(0.1), default=200.0, show_default=True, help="Operations a second."),
    click.option("--concurrency", type=click.IntRange(1, 4096), default=10, show_default=True, help="Client threads."),
    click.option(
        "--etcd-arg", "etcd_args", multiple=True, metavar="FLAG", help="A flag for every etcd, as --flag=value."
    ),
    click.option("--store", type=click.Path(path_type=Path, file_okay=False), default=Path("store"), show_default=True),
    click.option("--ops-per-key", type=click.IntRange(1), default=200, show_default=True, help="Then a new key."),
    click.option("--keys", type=click.IntRange(1), help="Keys in use at a time, where the workload has a say in it."),
    click.option(
        "--avoid", default="", metavar="ISSUE,...", help="Known issues whose triggering operations are left out."
    ),
    click.option(
        "--option", "given", multiple=True, metavar="NAME=VALUE", help="A workload's own option, as its page tells."
    ),
    click.option(
        "--interval",
        "interval_s",
        type=click.FloatRange(0.5),
        help="Mean seconds between faults; 5, or less where a short run would else not see every family.",
    ),
    click.option("--overlap", is_flag=True, help="Let faults of different families overlap."),
    click.option(
        "--mutant", "mutants", multiple=True, help="Plant a bug into --cluster sim (`splitvote list mutants`)."
    ),
    click.option("--op-timeout", "op_timeout_s", type=click.FloatRange(0.05), default=2.0, show_default=True),
    click.option(
        "--timeout-s",
        "check_timeout_s",
        type=click.FloatRange(1),
        default=300.0,
        show_default=True,
        help="Bound on each checker.",
    ),
)
"""What load there is, and what is done to the cluster meanwhile."""


_ATTACHING: Final = (
    click.option(
        "--project",
        metavar="FILE|NAME",
        help="Your own compose project, for --cluster compose (docs/attach.md).",
    ),
    click.option(
        "--service-label",
        "service_labels",
        multiple=True,
        metavar="KEY=VALUE",
        help="The members' label, where process 1 is not etcd.",
    ),
    click.option("--helper-image", metavar="IMAGE", help="With nft, ip, tc and sh; by default ours, splitvote-node."),
    click.option("--endpoints", metavar="HOST:PORT,...", help="The members of your cluster, for --cluster attach."),
    click.option(
        "--allow",
        multiple=True,
        metavar="FAULT",
        help="What meets all data in your cluster: compact, save_snapshot.",
    ),
    click.option("--ca", metavar="FILE", help="PEM: who signs your members' certificates."),
    click.option("--cert", metavar="FILE", help="PEM: the certificate to show your members."),
    click.option("--key", metavar="FILE", help="PEM: its key."),
    click.option("--user", metavar="NAME", help="A user of your cluster; its password is in SPLITVOTE_PASSWORD."),
)
"""Getting into a cluster that is somebody else's."""


def _parsed(options: dict[str, Any]) -> dict[str, Any]:
    """The options of ``_LOAD`` as ``RunOptions`` has them."""
    from splitvote.harness.clusters.attached.foreign import Foreign
    from splitvote.harness.judge import parse_options

    given = options.pop("given")
    foreign = Foreign(**{name: options.pop(name) for name in Foreign.__struct_fields__ if name in options})
    parsed = {"workload_options": parse_options(given), "avoid": _issues(options["avoid"]), "foreign": foreign}
    return options | parsed


@cli.command()
@click.argument("workload", type=_Names("workload", _workloads))
@click.option(
    "--cluster", type=_Name("cluster", lambda: CLUSTERS), default="local", show_default=True, help="How to get nodes."
)
@click.option("--time", "time_s", type=click.FloatRange(1, 86_400), default=60.0, show_default=True, help="Seconds.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Repeats a run's choices; random when not given.")
@click.option("--etcd", "etcd", multiple=True, metavar="[NODE=]PATH", help="The etcd binary; for one node: n1=PATH.")
@click.option("--upgrade", multiple=True, metavar="PATH", help="Another etcd for the faults of the family version.")
@click.option(
    "--control",
    type=_Name("control", lambda: CONTROLS),
    default="ssh",
    show_default=True,
    help="How nodes of --cluster compose are reached.",
)
@click.option(
    "--nodes-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The hosts of --cluster ssh, in TOML (docs/ssh.md); --nodes says nothing then.",
)
@_with(_ATTACHING)
@_with(_LOAD)
@click.option(
    "--slo", multiple=True, metavar="SLO", callback=_check_slos, help="As recovery<5s, p99<100ms or availability>99%."
)
@click.option(
    "--schedule",
    type=click.Path(path_type=Path, exists=True),
    help="The faults of an earlier run again: its directory or faults.jsonl, instead of --faults.",
)
@click.option("--schedule-omit", is_flag=True, help="Leave out what of the --schedule the cluster lacks.")
@click.option("--dry-run", is_flag=True, help="Print the schedule of faults and touch nothing.")
@_JUNIT
@_SUMMARY
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    callback=_read_config,
    expose_value=False,
    help="A TOML file with any of these options.",
)
def run(**options: Any) -> None:
    """Run WORKLOAD against a cluster under faults, check the history, write the report.

    Several workloads run at once when joined by a plus sign: kv+watch.
    """
    from splitvote.harness.campaign import RunOptions, run_once

    sys.exit(run_once(RunOptions(**_parsed(options)), command=tuple(sys.argv[1:])))


def _issues(given: str) -> tuple[str, ...]:
    """The known issues named in a comma-separated list; each must be one that can be avoided."""
    from splitvote.checkers.known_issues import AVOIDABLE

    issues = tuple(filter(None, given.replace(" ", "").split(",")))
    for issue in issues:
        if issue not in AVOIDABLE:
            raise ConfigError(f"--avoid: {unknown('issue that can be avoided', issue, AVOIDABLE)}")
    return issues


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "format_", default="auto", help="auto, jsonl, edn, jepsen-log or porcupine-kv.")
@click.option("--model", help="Judge by this model (register, cas-register, kv ...) instead of the run's own checkers.")
@click.option("--workload", help="Judge as this workload's: register, append, wr (Elle), set, bank, queue ...")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the model or checker.")
@click.option("--drop-failed-cas", is_flag=True, help="Take a failed cas as no observation, as Knossos does.")
@click.option("--timeout-s", "timeout_s", type=click.FloatRange(0.01), default=300.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--html", "html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to this file.")
def check(**options: Any) -> None:
    """Judge a run, or a history from elsewhere: PATH is a run's directory or a file."""
    from splitvote.harness.judge import FOREIGN_WORKLOADS, check_path

    if options["workload"] not in (None, *FOREIGN_WORKLOADS):
        raise ConfigError(unknown("workload", options["workload"], FOREIGN_WORKLOADS))
    sys.exit(check_path(**options))


@cli.command()
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path, exists=True))
@_JUNIT
@_SUMMARY
def report(run_path: Path, junit: Path | None, summary: Path | None) -> None:
    """Write RUN's report.html anew from what is stored, and what CI systems read of it."""
    from splitvote.harness.store import open_run
    from splitvote.reports import append_summary, write_junit, write_report

    run = open_run(run_path).path
    click.echo(write_report(run))
    if junit is not None:
        click.echo(write_junit(run, junit))
    if summary is not None:
        click.echo(append_summary(run, summary))


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=_Name("format", lambda: EXPORTS), default="edn", show_default=True)
@click.option("--from", "read_as", default="auto", help="What a file from elsewhere is: see `check --format`.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Instead of TEST-RUN.FORMAT.")
def export(path: Path, format_: str, read_as: str, output: Path | None) -> None:
    """Write a history as edn (for Jepsen's tools), jsonl or parquet: PATH is a run's directory or a file."""
    from splitvote.harness.conversion import export as export_history

    click.echo(export_history(path, format_, output=output, read_as=read_as))


@cli.command("zip")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path, exists=True))
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Instead of TEST-RUN.zip.")
def zip_(run_path: Path, output: Path | None) -> None:
    """Write a whole RUN as one zip."""
    from splitvote.reports.index import write_zip

    click.echo(write_zip(run_path, output))


_STORE: Final = click.argument(
    "store", metavar="[STORE]", default=Path("store"), type=click.Path(path_type=Path, file_okay=False)
)


@cli.command()
@_STORE
def index(store: Path) -> None:
    """Write STORE/index.html and compare.html: all runs, their trends, two side by side."""
    from splitvote.reports.index import write_index

    written = write_index(store)
    click.echo(f"{written.path} ({written.runs} run{'' if written.runs == 1 else 's'})")


@cli.command()
@_STORE
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8400, show_default=True, help="0 takes a free one.")
def serve(store: Path, host: str, port: int) -> None:
    """Serve STORE's index, reports and zips to browsers on this machine."""
    from splitvote.reports.index import serve as serve_store

    serve_store(store, host=host, port=port, say=click.echo)


@cli.command()
@click.argument("run_path", metavar="[RUN]", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), default=Path("store"), show_default=True)
def heal(run_path: Path | None, store: Path) -> None:
    """Undo what a killed run left behind: RUN, or every run of the store with faults still open."""
    from splitvote.harness.campaign import heal_runs

    for line in heal_runs(run_path, store):
        click.echo(line)


@cli.command()
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), default=Path("store"), show_default=True)
@click.option("--keep", type=click.IntRange(0), default=20, show_default=True, help="Newest runs of each test to keep.")
@click.option("--failed-too", is_flag=True, help="Remove old runs that were not VALID, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(store: Path, keep: int, failed_too: bool, dry_run: bool) -> None:
    """Remove old runs: all but the newest of each test, and every run that was not VALID is kept."""
    from splitvote.harness.store import prunable, remove_run

    given_up = prunable(store, keep=keep, keep_failed=not failed_too)
    freed = 0
    for run_directory in given_up:
        click.echo(run_directory.path)
        freed += 0 if dry_run else remove_run(run_directory)
    click.echo(f"{len(given_up)} run(s) " + ("would go" if dry_run else f"removed, {freed / 1e6:.1f} MB freed"))


_JOBS: Final = click.option("--jobs", type=click.IntRange(1), help="Runs at once; the machine's processors by default.")
_EXECUTOR: Final = click.option(
    "--executor", default="process", show_default=True, help="process, or dask:ADDRESS of a Dask scheduler."
)


@cli.command()
@click.argument("workload", type=_Names("workload", _workloads))
@click.option("--seeds", required=True, metavar="A..B", help="The seeds to run, both ends included.")
@click.option("--time", "time_s", type=click.FloatRange(1, 86_400), default=10.0, show_default=True, help="Virtual s.")
@click.option(
    "--until", type=click.Choice(["all", "first"]), default="all", show_default=True, help="Stop when INVALID."
)
@click.option("--keep", type=click.Choice(["failures", "everything", "nothing"]), default="failures", show_default=True)
@_JOBS
@_EXECUTOR
@_with(_LOAD)
def explore(seeds: str, until: Until, keep: Keep, jobs: int | None, executor: str, **options: Any) -> None:
    """Run many seeds of WORKLOAD on the simulated cluster; keep those that are not VALID, each with its command."""
    from splitvote.harness.campaign import RunOptions
    from splitvote.harness.exploration import explore_and_tell, parse_seeds

    wanted = RunOptions(cluster="sim", seed=None, **_parsed(options))
    sys.exit(explore_and_tell(wanted, parse_seeds(seeds), executor=executor, jobs=jobs, keep=keep, until=until))


@cli.command()
@click.option("--mutant", "mutants", multiple=True, help="Only this one; may be given again.")
@click.option(
    "--seeds", type=click.IntRange(1, 50), default=5, show_default=True, help="Of each workload; more if need be."
)
@click.option("--time", "time_s", type=click.FloatRange(5, 3600), default=60.0, show_default=True, help="Virtual s.")
@click.option("--control", type=click.IntRange(0), default=2000, show_default=True, help="Seeds with nothing planted.")
@click.option("--first-only", is_flag=True, help="Only the first of each mutant's workloads.")
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Put the table into this document.")
@click.option("--json", "as_json", is_flag=True, help="Print the marks as JSON.")
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), default=Path("store"), show_default=True)
@_JOBS
@_EXECUTOR
def exam(**wish: Any) -> None:
    """Plant every known bug into the simulated cluster and see which are caught, how soon, and whether wolf is cried.

    Goes on where an interrupted exam of the same code stopped.
    """
    from splitvote.harness.exam.command import Wish, sit

    sys.exit(sit(Wish(**wish)))


@cli.command()
@click.option("--etcd", "etcd", metavar="PATH", help="The etcd binary to look at.")
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), default=Path("store"), show_default=True)
def doctor(etcd: str | None, store: Path) -> None:
    """Say what this machine can and cannot do, and what to install."""
    from splitvote.harness.doctor import examine

    sys.exit(examine(etcd, store))


@cli.command("list")
@click.argument("what", default="all", type=_Name("list", lambda: LISTS))
def list_(what: str) -> None:
    """List workloads, faults, clusters, models, checkers that `check --workload` knows, mutants of `--cluster sim`."""
    from splitvote.harness.listing import listing

    click.echo("\n\n".join(listing(what)))


for command in (*node_commands.COMMANDS, nightly, summary):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; our own errors and click's are one line and the right exit code."""
    try:
        status = cli.main(args=arguments, prog_name="splitvote", standalone_mode=False)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except (click.Abort, asyncio.CancelledError):
        _say_error("interrupted")
        status = INTERRUPTED_EXIT
    except click.ClickException as problem:
        _say_error(problem.format_message())
        status = USAGE_EXIT
    except SplitvoteError as failure:
        _say_error(str(failure))
        status = failure.exit_code
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        status = 0
    except Exception as crash:  # else Python's own exit code would say INVALID
        import traceback

        traceback.print_exc()
        _say_error(f"crashed: {type(crash).__name__}: {crash} (a defect of splitvote, please report it)")
        status = SplitvoteError.exit_code
    sys.exit(status if isinstance(status, int) else 0)


def _say_error(message: str) -> None:
    click.echo(f"splitvote: {message}", err=True)


if __name__ == "__main__":
    main()
