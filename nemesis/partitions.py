"""Partitions as sets of directed links to cut, by Jepsen's names (jepsen.nemesis: grudges); pure functions.

A link (a, b) carries what a sends to b.  Two-way kinds cut both directions of
whatever they cut.

majorities_ring: the nodes stand in a ring, each hears those next to it, a
majority, and no two hear the same.  From four nodes on it is two-way, each
side of a node being ceil((majority - 1) / 2) wide; with three a two-way ring
would cut nothing, so each node hears itself and the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from splitvote.harness.cluster import CLIENT, Pair
from splitvote.harness.errors import NemesisError, unknown
from splitvote.nemesis.targets import shuffled


class Grudge(msgspec.Struct, frozen=True):
    """Which links to cut, whom that isolates, and the picture in words."""

    pairs: tuple[Pair, ...]
    targets: tuple[str, ...]
    words: str


def ordered(nodes: Sequence[str], pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Pairs without repetitions, in the nodes' order."""
    place = {node: position for position, node in enumerate(nodes)}
    return tuple(sorted(set(pairs), key=lambda pair: (place[pair[0]], place[pair[1]])))


def between(some: Iterable[str], others: Iterable[str]) -> set[Pair]:
    """Both directions of every link between two groups."""
    others = tuple(others)
    return {pair for a in some for b in others if a != b for pair in ((a, b), (b, a))}


def links_of(nodes: Sequence[str], some: Sequence[str]) -> tuple[Pair, ...]:
    """Both directions of every link that begins or ends at one of ``some``."""
    return ordered(nodes, between(some, nodes))


def components(nodes: Sequence[str], *groups: Sequence[str]) -> Grudge:
    """Cut the groups off from each other; the targets are the smallest group (the first of equals)."""
    pairs = {pair for place, group in enumerate(groups) for other in groups[:place] for pair in between(group, other)}
    smallest = min(groups, key=len)
    return Grudge(ordered(nodes, pairs), _in_order(nodes, smallest), " | ".join(_names(nodes, g) for g in groups))


def isolate(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """Cut each target off from every other node."""
    rest = tuple(node for node in nodes if node not in targets)
    groups = [*((target,) for target in targets), *([rest] if rest else [])]
    return msgspec.structs.replace(components(nodes, *groups), targets=_in_order(nodes, targets))


def halves(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """The first half against the second, which is the larger when they differ."""
    middle = len(nodes) // 2
    return components(nodes, nodes[:middle], nodes[middle:])


def random_halves(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """``halves`` of a random order."""
    mixed = shuffled(nodes, pick)
    middle = len(nodes) // 2
    return components(nodes, mixed[:middle], mixed[middle:])


def majority_minority(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """The smallest majority against the rest."""
    mixed = shuffled(nodes, pick)
    size = (len(nodes) - 1) // 2
    return components(nodes, mixed[:size], mixed[size:])


def bridge(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """Two halves that hear each other only through one node, which hears everybody."""
    mixed = shuffled(nodes, pick)
    middle = len(nodes) // 2
    left, over, right = mixed[:middle], mixed[middle], mixed[middle + 1 :]
    pairs = ordered(nodes, between(left, right))
    ends = tuple(node for node in nodes if node != over)
    return Grudge(pairs, ends, f"{_names(nodes, left)} - {over} - {_names(nodes, right)}")


def majorities_ring(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """Everybody hears a majority, no two the same one (see the module's docstring)."""
    ring = shuffled(nodes, pick)
    count = len(ring)
    width = -(-(count // 2) // 2)
    behind, ahead = (width, width) if 2 * width + 1 < count else (1, 0)
    pairs = set()
    for place, node in enumerate(ring):
        heard = {ring[(place + step) % count] for step in range(-behind, ahead + 1)}
        pairs |= {(other, node) for other in ring if other not in heard}
    how = "two neighbours" if width == 1 and ahead else f"{behind} before and {ahead} after it"
    return Grudge(ordered(nodes, pairs), tuple(nodes), f"ring {'-'.join(ring)}, each hears {how}")


def one_way_in(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """The targets hear nobody; what they say is heard."""
    pairs = {(other, target) for target in targets for other in nodes if other != target}
    return Grudge(ordered(nodes, pairs), _in_order(nodes, targets), f"nothing reaches {_names(nodes, targets)}")


def one_way_out(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """Nobody hears the targets; they hear everybody."""
    pairs = {(target, other) for target in targets for other in nodes if other != target}
    return Grudge(ordered(nodes, pairs), _in_order(nodes, targets), f"nothing leaves {_names(nodes, targets)}")


def client(nodes: Sequence[str], targets: Sequence[str], pick: int) -> Grudge:
    """Cut clients off from the targets; nodes hear each other."""
    cut_off = _in_order(nodes, targets)
    pairs = tuple(pair for node in cut_off for pair in ((CLIENT, node), (node, CLIENT)))
    return Grudge(pairs, cut_off, f"clients | {_names(nodes, targets)}")


class Kind(msgspec.Struct, frozen=True):
    """How a partition is made; ``aims`` whether it needs targets, ``least_nodes`` below which it cuts nothing.

    ``needs`` is what ``Links.supports`` must hold for it.
    """

    make: Callable[[Sequence[str], Sequence[str], int], Grudge]
    aims: tuple[str, ...] = ()
    least_nodes: int = 2
    needs: tuple[str, ...] = ("cut",)


KINDS: Final[Mapping[str, Kind]] = {
    "one": Kind(isolate, ("one",)),
    "halves": Kind(halves),
    "random_halves": Kind(random_halves),
    "majority_minority": Kind(majority_minority, least_nodes=3),
    "majorities_ring": Kind(majorities_ring, least_nodes=3),
    "bridge": Kind(bridge, least_nodes=3),
    "primaries": Kind(isolate, ("primaries",)),
    "one_way_in": Kind(one_way_in, ("one", "primaries")),
    "one_way_out": Kind(one_way_out, ("one", "primaries")),
    "client": Kind(client, ("one", "primaries"), least_nodes=1, needs=("cut", "client")),
}
"""Every kind of partition; ``aims`` are the selections of targets it is made for by default."""


def grudge(kind: str, nodes: Sequence[str], pick: int, targets: Sequence[str] = ()) -> Grudge:
    """The links that a kind of partition cuts; ``targets`` for those kinds that aim.

    Raises NemesisError for an unknown kind, and where there are too few nodes.
    """
    if kind not in KINDS:
        raise NemesisError(unknown("kind of partition", kind, tuple(KINDS)))
    if len(nodes) < KINDS[kind].least_nodes:
        raise NemesisError(f"partition:{kind} needs {KINDS[kind].least_nodes} nodes, there are {len(nodes)}")
    return KINDS[kind].make(nodes, targets, pick)


def _in_order(nodes: Sequence[str], some: Iterable[str]) -> tuple[str, ...]:
    chosen = set(some)
    return tuple(node for node in nodes if node in chosen)


def _names(nodes: Sequence[str], some: Iterable[str]) -> str:
    return ",".join(_in_order(nodes, some))
