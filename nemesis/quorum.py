"""What faults leave of a cluster: who can still lead, who can still serve; pure functions.

A member can lead (in Raft) when it and a majority of all members are up and
hear each other: requests and answers have to pass, so that a link cut one way
is a link lost.  These are bounds from the plan alone.  Who leads in fact, if
anybody, is up to the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from splitvote.harness.cluster import CLIENT, LinkShape, Pair


class Effect(msgspec.Struct, frozen=True):
    """What a fault does while it is active.

    ``shapes`` are the links it slows down; ``strained`` are nodes that run and
    may serve or not (a full disk, a clock that jumps, no processor time);
    ``absent`` are nodes that have no vote, whether they run or not.
    """

    down: tuple[str, ...] = ()
    cut: tuple[Pair, ...] = ()
    shapes: tuple[tuple[Pair, LinkShape], ...] = ()
    strained: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def __or__(self, other: Effect) -> Effect:
        return Effect(
            self.down + other.down,
            self.cut + other.cut,
            self.shapes + other.shapes,
            self.strained + other.strained,
            self.absent + other.absent,
        )

    @property
    def at_worst(self) -> Effect:
        """The same, with the strained nodes down."""
        return Effect(self.down + self.strained, self.cut, self.shapes, absent=self.absent)


NO_EFFECT = Effect()


def union(effects: Iterable[Effect]) -> Effect:
    """All of them together."""
    whole = NO_EFFECT
    for effect in effects:
        whole = whole | effect
    return whole


def partners(node: str, nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The voters that are up and hear this one and are heard by it, itself included; none when it is down."""
    gone, cut = {*effect.down, *effect.absent}, set(effect.cut)
    if node in gone:
        return ()
    return tuple(
        other
        for other in nodes
        if other == node or (other not in gone and (node, other) not in cut and (other, node) not in cut)
    )


def possible_leaders(nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The voters that hear, and are heard by, a majority of all, taken that what is strained works."""
    voters = [node for node in nodes if node not in effect.absent]
    return tuple(node for node in voters if len(partners(node, nodes, effect)) > len(voters) // 2)


def has_quorum(nodes: Sequence[str], effect: Effect) -> bool:
    """Whether progress is possible even if no strained node works."""
    return bool(possible_leaders(nodes, effect.at_worst))


def serving(nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The members that must serve, whoever leads: they reach every possible leader, and clients reach them.

    None must while a strained node could lead, and serve badly.
    """
    leaders = set(possible_leaders(nodes, effect))
    if leaders & set(effect.strained):
        return ()
    unreached = apart_from_clients(effect)
    return tuple(
        node
        for node in nodes
        if leaders and node not in unreached and leaders <= set(partners(node, nodes, effect.at_worst))
    )


def apart_from_clients(effect: Effect) -> tuple[str, ...]:
    """The nodes that clients do not reach, or are not answered by; to each other they are what they were."""
    return tuple(dict.fromkeys(node for pair in effect.cut if CLIENT in pair for node in pair if node != CLIENT))


def cut_off(nodes: Sequence[str], effect: Effect) -> tuple[str, ...]:
    """The members that are up but cannot serve, whoever leads: they reach no possible leader."""
    leaders = set(possible_leaders(nodes, effect))
    gone = {*effect.down, *effect.absent}
    return tuple(node for node in nodes if node not in gone and not leaders & set(partners(node, nodes, effect)))
