"""What faults leave of a cluster: who can still lead, who can still serve; pure functions.

A member can lead (in Raft) when it and a majority of all members are up and
hear each other: requests and answers have to pass, so that a link cut one way
is a link lost.  These are bounds from the plan alone.  Who leads in fact, if
anybody, is up to the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from splitvote.harness.cluster import LinkShape, Pair


class Effect(msgspec.Struct, frozen=True):
    """What a fault does while it is active; ``shapes`` are the links it slows down."""

    down: tuple[str, ...] = ()
    cut: tuple[Pair, ...] = ()
    shapes: tuple[tuple[Pair, LinkShape], ...] = ()

    def __or__(self, other: Effect) -> Effect:
        return Effect(self.down + other.down, self.cut + other.cut, self.shapes + other.shapes)


NO_EFFECT = Effect()


def union(effects: Iterable[Effect]) -> Effect:
    """All of them together."""
    whole = NO_EFFECT
    for effect in effects:
        whole = whole | effect
    return whole


def partners(node: str, nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The members that are up and hear this one and are heard by it, itself included; none when it is down."""
    down, cut = set(effect.down), set(effect.cut)
    if node in down:
        return ()
    return tuple(
        other
        for other in nodes
        if other == node or (other not in down and (node, other) not in cut and (other, node) not in cut)
    )


def possible_leaders(nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The members that hear, and are heard by, a majority of all."""
    return tuple(node for node in nodes if len(partners(node, nodes, effect)) > len(nodes) // 2)


def has_quorum(nodes: Sequence[str], effect: Effect) -> bool:
    """Whether progress is possible at all."""
    return bool(possible_leaders(nodes, effect))


def serving(nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The members that must serve, whoever leads: they reach every possible leader."""
    leaders = set(possible_leaders(nodes, effect))
    return tuple(node for node in nodes if leaders and leaders <= set(partners(node, nodes, effect)))


def cut_off(nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The members that are up but cannot serve, whoever leads: they reach no possible leader."""
    leaders = set(possible_leaders(nodes, effect))
    down = set(effect.down)
    return tuple(node for node in nodes if node not in down and not leaders & set(partners(node, nodes, effect)))
