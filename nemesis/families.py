"""The families of faults, by name, and what a user asks of them: ``kill,partition:bridge,packet`` or ``all``.

An entry is a family, or a family and what it is narrowed to, after colons: its
kinds (``partition:bridge``), whom to hit (``kill:primaries``), or nodes joined
by plus signs (``pause:n1+n3``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster
from splitvote.harness.errors import ConfigError, NemesisError, unknown
from splitvote.harness.machine import Disk
from splitvote.harness.recording import FaultRecord
from splitvote.nemesis.admin import ADMIN
from splitvote.nemesis.clock import CLOCKS
from splitvote.nemesis.damage import DAMAGE
from splitvote.nemesis.disk import DISKS
from splitvote.nemesis.failpoint import FAILPOINT
from splitvote.nemesis.fault import Fault, refusal
from splitvote.nemesis.links import PARTITIONS
from splitvote.nemesis.member import MEMBER
from splitvote.nemesis.packet import PACKETS
from splitvote.nemesis.process import KILL, PAUSE, STOP
from splitvote.nemesis.resource import RESOURCE
from splitvote.nemesis.restart import RESTART
from splitvote.nemesis.targets import SELECTIONS, is_possible
from splitvote.nemesis.upkeep import UPKEEP
from splitvote.nemesis.version import VERSION

ALL: Final = "all"


class Family(msgspec.Struct, frozen=True):
    """Faults that are started and stopped by one pair of operations.

    ``turns`` is how often a schedule takes it in one round of all families, and
    ``weights`` how often it deals a fault where it deals others once;
    ``provided_by`` names backends that can do it, for people; ``demands`` are
    capabilities that a cluster has to be brought up for.
    """

    name: str
    summary: str
    faults: tuple[Fault, ...]
    turns: int = 1
    weights: dict[str, int] = {}
    provided_by: tuple[str, ...] = ("local", "netns")
    demands: tuple[type[Any], ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The faults' names."""
        return tuple(fault.name for fault in self.faults)


FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family
    for family in (
        Family("kill", KILL.summary, (KILL,)),
        Family("stop", STOP.summary, (STOP,)),
        Family("pause", PAUSE.summary, (PAUSE,)),
        Family("restart", "end nodes and start them at once: in order, in a crash loop, all together", RESTART),
        Family("partition", "cut links between nodes, both ways or one", PARTITIONS),
        Family("packet", "delay, jitter, limit, lose or duplicate what passes over the links of some nodes", PACKETS),
        Family("clock", "put nodes' clocks forward or back, make them swing or drift; wall and monotonic time", CLOCKS),
        Family(
            "disk",
            "fill nodes' disks, slow them down, let them fail or freeze; lose what was not synced",
            DISKS,
            weights={"power_loss": 3},
            provided_by=("local", "netns", "compose", "sim"),
            demands=(Disk,),
        ),
        Family(
            "damage",
            "flip bits of what nodes have on their disks, cut it off, remove it; have them back as new members",
            DAMAGE,
            provided_by=("local", "netns", "compose", "sim"),
        ),
        Family("member", "remove and add nodes again, replace them, make them learners", MEMBER),
        Family("resource", "leave nodes too little processor time, descriptors or bandwidth", RESOURCE),
        Family("failpoint", "switch on failures that the binary was built with (gofail)", FAILPOINT),
        Family("version", "bring nodes to another version of the binary, and back", VERSION),
        Family(
            "admin",
            "compact, defragment, save snapshots, move the leader, crash in the middle; no space left, auth",
            (*ADMIN, *UPKEEP),
            turns=3,
        ),
    )
}
"""Every family there is."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {"process": ("kill", "stop", "pause", "restart")}
"""Names for several families."""


class Choice(msgspec.Struct, frozen=True):
    """One entry of a user's list: which faults of a family, aimed how (empty: as each fault has it), or at whom."""

    family: Family
    faults: tuple[Fault, ...]
    selections: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


class Chosen(msgspec.Struct, frozen=True):
    """What was asked for, as far as the cluster can do it.

    ``faults`` are the choices by entry; its keys make the same choice again.
    ``omitted`` are the faults that ``all`` or a whole family leaves out, with
    the reason.
    """

    faults: dict[str, Choice] = {}
    omitted: dict[str, str] = {}

    @property
    def demands(self) -> frozenset[type[Any]]:
        """The capabilities that the cluster has to be brought up for."""
        return frozenset(kind for choice in self.faults.values() for kind in choice.family.demands)

    @property
    def by_name(self) -> dict[str, tuple[Fault, ...]]:
        """Every fault that may be started, by family."""
        found: dict[str, tuple[Fault, ...]] = {}
        for choice in self.faults.values():
            before = found.get(choice.family.name, ())
            found[choice.family.name] = before + tuple(fault for fault in choice.faults if fault not in before)
        return found


def parse_faults(spec: str, cluster: Cluster) -> Chosen:
    """Read a user's list of faults against a cluster.

    Raises ConfigError for a misspelt name, suggesting the nearest, and for a
    fault asked for by name that this cluster cannot do, naming who can.
    """
    named = [entry for part in spec.split(",") if (entry := part.strip())]
    entries = [entry for name in named for entry in GROUPS.get(name, (name,))]
    if entries == [ALL]:
        return _everything(cluster)
    if ALL in entries:
        raise ConfigError(f"--faults {spec}: all stands alone; it is every family that the cluster provides")
    faults: dict[str, Choice] = {}
    omitted: dict[str, str] = {}
    for entry in entries:
        faults[entry], left_out = _choice(entry, cluster)
        omitted |= left_out
    return Chosen(faults, omitted)


def _everything(cluster: Cluster) -> Chosen:
    faults: dict[str, Choice] = {}
    omitted: dict[str, str] = {}
    for family in FAMILIES.values():
        able, left_out = _able(family, cluster)
        if able:
            faults[family.name] = Choice(family, able)
            omitted |= left_out
        else:
            omitted[family.name] = next(iter(left_out.values()))
    return Chosen(faults, omitted)


def _able(family: Family, cluster: Cluster) -> tuple[tuple[Fault, ...], dict[str, str]]:
    """The faults of a family that the cluster can do, and the others with the reason."""
    reasons = {fault.name: refusal(fault, cluster) for fault in family.faults}
    able = tuple(fault for fault in family.faults if reasons[fault.name] is None)
    left_out = {
        f"{family.name}:{name}": f"the {cluster.name} cluster: {reason}" for name, reason in reasons.items() if reason
    }
    return able, left_out


def _choice(entry: str, cluster: Cluster) -> tuple[Choice, dict[str, str]]:
    name, *narrower = entry.split(":")
    if name not in FAMILIES:
        if name in GROUPS:
            raise ConfigError(f"{entry!r}: {name} is {', '.join(GROUPS[name])}; narrow one of those")
        raise ConfigError(unknown("fault", name, (*FAMILIES, *GROUPS, ALL)))
    family = FAMILIES[name]
    faults, selections, targets = _narrowed(entry, family, narrower, cluster)
    if faults:
        for fault in faults:
            if (reason := refusal(fault, cluster)) is not None:
                raise _refusal(entry, f"the {cluster.name} cluster: {reason}", family, cluster)
        return Choice(family, faults, selections, targets), {}
    able, left_out = _able(family, cluster)
    if not able:
        raise _refusal(entry, next(iter(left_out.values())), family, cluster)
    return Choice(family, able, selections, targets), left_out


def _refusal(entry: str, reason: str, family: Family, cluster: Cluster) -> ConfigError:
    others = [name for name in family.provided_by if name != cluster.name]
    provided = " or ".join(others or family.provided_by)
    return ConfigError(
        f"--faults {entry}: {reason}; --cluster {provided} with enough nodes provides it, or leave it out"
    )


def _narrowed(
    entry: str, family: Family, narrower: Sequence[str], cluster: Cluster
) -> tuple[tuple[Fault, ...], tuple[str, ...], tuple[str, ...]]:
    """The faults, selections and nodes that the words after the colons name."""
    faults: list[Fault] = []
    selections: list[str] = []
    targets: list[str] = []
    for word in narrower:
        nodes = word.split("+")
        named = [fault for fault in family.faults if fault.name == word and len(family.faults) > 1]
        if named:
            faults += named
        elif all(node in cluster.nodes for node in nodes):
            targets += nodes
        elif word in SELECTIONS and any(fault.selections for fault in family.faults):
            if not is_possible(word, cluster.nodes):
                raise ConfigError(f"{entry!r}: {word} of {len(cluster.nodes)} nodes is nobody")
            selections.append(word)
        else:
            known = (*(family.kinds if len(family.faults) > 1 else ()), *SELECTIONS, *cluster.nodes)
            raise ConfigError(f"{entry!r}: {unknown('kind, selection or node', word, known)}")
    return tuple(faults), tuple(selections), tuple(targets)


def fault_of(record: FaultRecord) -> Fault:
    """The fault that a record is about; raises NemesisError for one that this version does not know."""
    return find_fault(record.family, record.fault)


def find_fault(family: str, kind: str, known: Mapping[str, tuple[Fault, ...]] | None = None) -> Fault:
    """A fault by family and kind, among those known (None: all there are); raises NemesisError for another name."""
    if known is None:
        known = {name: each.faults for name, each in FAMILIES.items()}
    if family not in known:
        raise NemesisError(unknown("family of faults", family, tuple(known)))
    found = [fault for fault in known[family] if fault.name == kind]
    if not found:
        raise NemesisError(unknown(f"fault of the family {family}", kind, [fault.name for fault in known[family]]))
    return found[0]
