"""Consistency models, anomalies, and which of the ones the others rule out.

Two facts per model: the models it is *at least as strong as*, and the anomalies
it *forbids* beyond theirs.  One fact per anomaly: what else it is a case of.
Closing these over gives the models a history can no longer claim: ``not`` is
the weakest of them, ``also_not`` all stronger ones, ``strongest_left`` the
strongest of those that were looked into and stand.

Names are Elle's friendly ones, so that verdicts compare word by word; Adya's
portable levels (PL-1 ...) are accepted as aliases.  Sources: Adya, "Weak
Consistency" (G0 ... G2, PL levels, G-single, cursor stability); Adya, Liskov,
O'Neil, "Generalized Isolation Level Definitions"; Cerone, Bernardi, Gotsman, "A
Framework for Transactional Consistency Models with Atomic Visibility" (INT and
EXT, read atomic, causal, prefix, parallel snapshot isolation); Cerone, Gotsman,
"Analysing Snapshot Isolation" (no cycle whose rw edges are never adjacent);
Daudjee, Salem, "Lazy Database Replication with Snapshot Isolation" (strong
session variants); Liu et al., "ROLA" (update atomic); Bailis et al., "Highly
Available Transactions"; Kingsbury, Alvaro, "Elle".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Final

from splitvote.harness.errors import ConfigError, unknown

_AT_LEAST: Final[dict[str, tuple[str, ...]]] = {
    "read-uncommitted": (),
    "read-committed": ("read-uncommitted",),
    "monotonic-view": ("read-committed",),
    "monotonic-snapshot-read": ("read-committed",),
    "monotonic-atomic-view": ("read-committed",),
    "cursor-stability": ("read-committed",),
    "read-atomic": ("monotonic-atomic-view",),
    "update-atomic": ("read-atomic",),
    "causal-cerone": ("read-atomic",),
    "prefix": ("causal-cerone",),
    "parallel-snapshot-isolation": ("causal-cerone", "update-atomic"),
    "consistent-view": ("cursor-stability", "monotonic-view"),
    "forward-consistent-view": ("consistent-view",),
    "update-serializable": ("forward-consistent-view",),
    "repeatable-read": ("cursor-stability", "monotonic-atomic-view"),
    "snapshot-isolation": (
        "forward-consistent-view",
        "monotonic-atomic-view",
        "monotonic-snapshot-read",
        "parallel-snapshot-isolation",
        "prefix",
    ),
    "serializable": ("repeatable-read", "update-serializable", "snapshot-isolation"),
    "strong-session-read-uncommitted": ("read-uncommitted",),
    "strong-session-read-committed": ("read-committed", "strong-session-read-uncommitted"),
    "strong-session-snapshot-isolation": ("snapshot-isolation", "strong-session-read-committed"),
    "strong-session-serializable": ("serializable", "strong-session-snapshot-isolation"),
    "strong-read-uncommitted": ("strong-session-read-uncommitted",),
    "strong-read-committed": ("strong-session-read-committed", "strong-read-uncommitted"),
    "strong-snapshot-isolation": ("strong-session-snapshot-isolation", "strong-read-committed"),
    "strong-serializable": ("serializable", "strong-snapshot-isolation", "strong-session-serializable"),
}

_FORBIDS: Final[dict[str, tuple[str, ...]]] = {
    "read-uncommitted": ("G0", "duplicate-elements", "cyclic-versions", "unwritten-read"),
    "read-committed": ("G1",),
    "cursor-stability": ("lost-update",),
    "read-atomic": ("internal", "future-read"),
    "update-atomic": ("lost-update",),
    "consistent-view": ("G-single",),
    "repeatable-read": ("G2-item", "lost-update"),
    "snapshot-isolation": ("G-nonadjacent",),
    "serializable": ("G2",),
    "strong-session-read-uncommitted": ("G0-process",),
    "strong-session-read-committed": ("G1-process",),
    "strong-session-snapshot-isolation": ("G-nonadjacent-process",),
    "strong-session-serializable": ("G2-process",),
    "strong-read-uncommitted": ("G0-realtime",),
    "strong-read-committed": ("G1-realtime",),
    "strong-snapshot-isolation": ("G-nonadjacent-realtime",),
    "strong-serializable": ("G2-realtime",),
}

MODELS: Final = tuple(_AT_LEAST)
"""Every model, by its friendly name."""

ALIASES: Final[dict[str, str]] = {
    "strict-serializable": "strong-serializable",
    "conflict-serializable": "serializable",
    "strong-session-PL-1": "strong-session-read-uncommitted",
    "strong-session-PL-2": "strong-session-read-committed",
    "strong-PL-1": "strong-read-uncommitted",
    "strong-PL-2": "strong-read-committed",
    "ROLA": "update-atomic",
    "PL-1": "read-uncommitted",
    "PL-2": "read-committed",
    "PL-2L": "monotonic-view",
    "PL-MSR": "monotonic-snapshot-read",
    "PL-CS": "cursor-stability",
    "PL-2+": "consistent-view",
    "PL-FCV": "forward-consistent-view",
    "PL-3U": "update-serializable",
    "PL-2.99": "repeatable-read",
    "PL-SI": "snapshot-isolation",
    "PL-3": "serializable",
    "PL-SS": "strong-serializable",
}

VARIANTS: Final = ("", "-process", "-realtime")
"""What a cycle needs beside data: nothing, the order within a process, or real time."""

CYCLE_KINDS: Final = ("G0", "G1c", "G-single", "G-nonadjacent", "G2-item")
"""Cycles by the data edges they are made of, the gravest first."""

CYCLES: Final = tuple(kind + variant for variant in VARIANTS for kind in CYCLE_KINDS)
"""Every type of cycle, in the order in which they are looked for."""


def _cases() -> dict[str, tuple[str, ...]]:
    """What each anomaly is a case of.

    Every item of ours is a key read by name, never by predicate, so that our
    G-single and G-nonadjacent are Elle's ``-item`` forms, special cases of
    G2-item.  A dirty update, a read of an incompatible order and an internal
    view of the future are read as Elle reads them.
    """
    cases: dict[str, tuple[str, ...]] = {
        "G1a": ("G1",),
        "G1b": ("G1",),
        "incompatible-order": ("G1a",),
        "dirty-update": ("G1a",),
        "future-read": ("G1c",),
        "lost-update": ("G2-item",),
    }
    wider = {
        "G0": ("G1c",),
        "G1c": ("G1",),
        "G1": (),
        "G-single": ("G-nonadjacent",),
        "G-nonadjacent": ("G2-item",),
        "G2-item": ("G2",),
        "G2": (),
    }
    for variant, next_variant in zip(VARIANTS, (*VARIANTS[1:], None), strict=True):
        for kind, implied in wider.items():
            weaker_order = () if next_variant is None else (kind + next_variant,)
            cases[kind + variant] = tuple(name + variant for name in implied) + weaker_order
    return cases


_CASE_OF: Final = _cases()

ANOMALIES: Final = tuple(dict.fromkeys([*_CASE_OF, *(name for names in _FORBIDS.values() for name in names)]))
"""Every anomaly the lattice knows."""


def model_named(name: str) -> str:
    """The friendly name of a model given by any of its names; raises ConfigError for one that is not known."""
    model = ALIASES.get(name, name)
    if model not in _AT_LEAST:
        raise ConfigError(unknown("consistency model", name, [*MODELS, *ALIASES]))
    return model


def _reach(graph: Mapping[str, Iterable[str]], start: Iterable[str]) -> set[str]:
    """Everything reachable from the start, itself included."""
    reached: set[str] = set()
    frontier = list(start)
    while frontier:
        name = frontier.pop()
        if name not in reached:
            reached.add(name)
            frontier.extend(graph.get(name, ()))
    return reached


def _reversed(graph: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    back: dict[str, list[str]] = {}
    for source, targets in graph.items():
        for target in targets:
            back.setdefault(target, []).append(source)
    return back


_STRONGER: Final = _reversed(_AT_LEAST)
_INSTANCES: Final = _reversed(_CASE_OF)


@cache
def implied_by(anomaly: str) -> frozenset[str]:
    """The anomaly and all it is a case of: finding it makes looking for these in the same place moot."""
    return frozenset(_reach(_CASE_OF, [anomaly]))


@cache
def forbidden_by(model: str) -> frozenset[str]:
    """Every anomaly whose presence breaks the model (by any of its names)."""
    weaker = _reach(_AT_LEAST, [model_named(model)])
    direct = [anomaly for name in weaker for anomaly in _FORBIDS.get(name, ())]
    return frozenset(_reach(_INSTANCES, direct))


def variants_of(model: str) -> tuple[str, ...]:
    """The variants of cycles that can break a model: only what it needs is looked into."""
    cycles = forbidden_by(model).intersection(CYCLES)
    return tuple(variant for variant in VARIANTS if not variant or any(name.endswith(variant) for name in cycles))


def cycles_of(variants: Collection[str]) -> list[str]:
    """Every type of cycle of these variants."""
    return [kind + variant for variant in VARIANTS if variant in variants for kind in CYCLE_KINDS]


def ruled_out(anomalies: Iterable[str]) -> frozenset[str]:
    """Every model that cannot hold where these anomalies are."""
    present = _reach(_CASE_OF, anomalies)
    broken = [model for model, forbidden in _FORBIDS.items() if not present.isdisjoint(forbidden)]
    return frozenset(_reach(_STRONGER, broken))


def boundary(anomalies: Iterable[str]) -> tuple[list[str], list[str]]:
    """The weakest models the anomalies rule out (``not``), and the rest of those ruled out (``also_not``)."""
    impossible = ruled_out(anomalies)
    weakest = [model for model in impossible if impossible.isdisjoint(_AT_LEAST[model])]
    return sorted(weakest), sorted(impossible.difference(weakest))


def strongest_left(anomalies: Collection[str], looked_into: Collection[str]) -> list[str]:
    """The strongest models that stand, of those whose every forbidden cycle was looked into.

    ``looked_into`` are cycle types; a model that forbids another is left out,
    since nothing was learned about it.
    """
    blind = [cycle for cycle in CYCLES if cycle not in looked_into]
    standing = set(MODELS) - ruled_out(anomalies) - ruled_out(blind)
    return sorted(model for model in standing if standing.isdisjoint(_STRONGER.get(model, ())))
