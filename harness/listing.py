"""What ``splitvote list`` prints: the workloads, faults, clusters, models, checkers and mutants there are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Final

SECTIONS: Final = ("workloads", "faults", "clusters", "models", "checkers", "mutants")


def listing(what: str) -> list[str]:
    """The sections asked for ("all" or one of SECTIONS), each a text."""
    sections = dict(zip(SECTIONS, (_workloads, _faults, _clusters, _models, _checkers, _mutants), strict=True))
    chosen = sections if what == "all" else {what: sections[what]}
    return ["\n".join([f"{name}:", *(f"  {line}" for line in lines())]) for name, lines in chosen.items()]


def _summary(module: str) -> str:
    return (import_module(module).__doc__ or "").strip().splitlines()[0]


def _workloads() -> Iterator[str]:
    from splitvote.workloads import NAMES

    for name in NAMES:
        yield f"{name:<14}{_summary(f'splitvote.workloads.{name.replace(chr(45), chr(95))}')}"


def _faults() -> Iterator[str]:
    from splitvote.nemesis import FAMILIES

    for family in FAMILIES.values():
        yield f"{family.name:<14}{family.summary}"


def _clusters() -> Iterator[str]:
    yield f"{'local':<14}{_summary('splitvote.harness.clusters.local')}"
    yield f"{'netns':<14}{_summary('splitvote.harness.clusters.network.netns')}"
    yield f"{'compose':<14}{_summary('splitvote.harness.clusters.remote.compose')}"
    yield f"{'ssh':<14}{_summary('splitvote.harness.clusters.remote.ssh_hosts')}"
    yield f"{'  --project':<14}{_summary('splitvote.harness.clusters.attached.project')}"
    yield f"{'attach':<14}{_summary('splitvote.harness.clusters.attached.endpoints')}"
    yield f"{'sim':<14}{_summary('splitvote.harness.simulation.cluster')}"


def _models() -> Iterator[str]:
    from splitvote.checkers.linearizability import MODELS

    yield from sorted(MODELS)


def _checkers() -> Iterator[str]:
    from splitvote.harness.judge import FOREIGN_WORKLOADS

    yield from FOREIGN_WORKLOADS


def _mutants() -> Iterator[str]:
    from splitvote.harness.simulation.mutants import MUTANTS

    for mutant in MUTANTS.values():
        yield f"{mutant.name:<38}breaks: {mutant.breaks}"
        yield f"{'':<38}{mutant.how}" + (f" (needs {' or '.join(mutant.needs)})" if mutant.needs else "")
