"""The matrix of docs/faults.md: what each cluster can do, from the capabilities, and only as far as it was run.

    python docs/matrix.py                    writes the table into docs/faults.md
    python docs/matrix.py --proven STORE...  adds what the VALID runs of these stores proved to docs/faults-proven.json

A fault that a run's journal has as active and as healed is proven there.  What
a cluster lacks is asked of the cluster itself; of one on remote nodes as it
would be had its nodes been found to have what our image has (``ImagedHosts``),
so that the table can be made where no node is.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.network.netns import NamespaceNetwork
from splitvote.harness.clusters.remote.cluster import RemoteCluster
from splitvote.harness.clusters.remote.composition import SERVICES, Composition
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.clusters.remote.node_facts import NodeFacts
from splitvote.harness.clusters.remote.throttles import ContainerThrottle, Throttle
from splitvote.harness.errors import SplitvoteError
from splitvote.harness.etcd.daemon import Etcd
from splitvote.harness.result import Verdict
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.harness.store import load_config, load_results, runs
from splitvote.nemesis import FAMILIES, Fault, read_faults

DOCUMENT: Final = Path(__file__).with_name("faults.md")
PROVEN: Final = Path(__file__).with_name("faults-proven.json")
BEGIN, END = "<!-- matrix: python docs/matrix.py -->\n", "<!-- end of the matrix -->\n"

UPGRADE: Final = "with `--upgrade PATH`"
GOFAIL: Final = "with an etcd that was built with gofail (tried with a stand-in that serves gofail's endpoint)"
CGROUP: Final = "as root, or in a delegated control group"
LIMITED_DISK: Final = (
    "as root, or in a delegated control group, where the run's directory is on a disk (no tmpfs, no overlay) and no "
    "fault of disks is asked for"
)
NETEM: Final = "delay, jitter and duplicate where the kernel has netem"
PATCHED: Final = "on x86-64 Linux, where processes of ours may be traced"
NODES_PATCHED: Final = "where the nodes are x86-64 Linux with python3 3.10 or later, and may be traced by root there"
FUSE: Final = "on Linux with /dev/fuse, as root or where user namespaces are allowed"
NODES_FUSE: Final = "where the nodes have python3, nsenter and /dev/fuse, and may mount (`splitvote up --with disk`)"
SNAPSHOTS: Final = "where members make snapshots in time: `--etcd-arg=--snapshot-count=100`"
CONDITIONS: Final[Mapping[tuple[str, str], str]] = {
    ("local", "version"): UPGRADE,
    ("netns", "version"): UPGRADE,
    ("local", "failpoint"): GOFAIL,
    ("compose", "failpoint"): GOFAIL,
    ("ssh", "failpoint"): GOFAIL,
    ("local", "resource:cpu"): CGROUP,
    ("netns", "resource:cpu"): CGROUP,
    ("local", "resource:io"): LIMITED_DISK,
    ("netns", "resource:io"): LIMITED_DISK,
    ("local", "clock"): PATCHED,
    ("netns", "clock"): PATCHED,
    ("local", "disk"): FUSE,
    ("netns", "disk"): FUSE,
    ("local", "damage:snapshot_bit_flip"): SNAPSHOTS,
    ("local", "damage:snapshot_loss"): SNAPSHOTS,
    ("netns", "damage:snapshot_bit_flip"): SNAPSHOTS,
    ("netns", "damage:snapshot_loss"): SNAPSHOTS,
    ("compose", "disk"): NODES_FUSE,
    ("ssh", "disk"): NODES_FUSE,
    ("compose", "damage:snapshot_bit_flip"): SNAPSHOTS,
    ("compose", "damage:snapshot_loss"): SNAPSHOTS,
    ("ssh", "damage:snapshot_bit_flip"): SNAPSHOTS,
    ("ssh", "damage:snapshot_loss"): SNAPSHOTS,
    ("sim", "damage:snapshot_bit_flip"): SNAPSHOTS,
    ("sim", "damage:snapshot_loss"): SNAPSHOTS,
    ("netns", "packet"): NETEM,
    ("compose", "packet"): NETEM,
    ("ssh", "packet"): NETEM,
    ("compose", "clock"): NODES_PATCHED,
    ("ssh", "clock"): NODES_PATCHED,
    ("compose", "version"): UPGRADE,
    ("ssh", "version"): UPGRADE,
}
"""What the machine or the options decide; such cells are not asked of the cluster."""


IMAGE: Final = NodeFacts(
    etcd=("/usr/bin/etcd", "etcd Version: 3.4.23"),
    filters=("nft", "iptables"),
    qdiscs=("htb", "netem"),
    tools=("python3",),
    clock=None,
    agent=None,
    disk=None,
)
"""What docker/Dockerfile's image has on a kernel that has all; what the kernel decides is in CONDITIONS."""


@dataclass(frozen=True, slots=True)
class ImagedHosts:
    """Nodes that were never reached, and have what our image has."""

    name: str
    throttle: Throttle | None

    def facts(self) -> NodeFacts:
        """See ``Hosts``."""
        return IMAGE

    def binary(self, node: str) -> Etcd:
        """See ``Hosts``."""
        return IMAGE.binary(self.name)

    def described(self) -> dict[str, Any]:
        """See ``Hosts``; there is nothing to be made again."""
        return {}

    async def open(self, note: Callable[[], None]) -> Mapping[str, Node]:
        """See ``Hosts``; there is no node."""
        raise NotImplementedError

    async def reach(self) -> Mapping[str, Node]:
        """See ``Hosts``; there is no node."""
        raise NotImplementedError

    async def close(self) -> None:
        """See ``Hosts``."""


def clusters(directory: Path) -> dict[str, Cluster]:
    """One of each, never brought up; the binary is none, and is not asked anything."""
    binary = Etcd(Path(sys.executable).resolve(), "0", (3, 5, 0))
    containers = ImagedHosts("compose", ContainerThrottle(Composition(DOCUMENT.parents[1])))
    return {
        "local": LocalCluster(directory=directory, nodes=5, etcd=binary),
        "netns": LocalCluster(directory=directory, nodes=5, etcd=binary, network=NamespaceNetwork),
        "compose": RemoteCluster(directory=directory, hosts=containers, nodes=SERVICES, etcd={}),
        "ssh": RemoteCluster(directory=directory, hosts=ImagedHosts("ssh", None), nodes=SERVICES, etcd={}),
        "sim": SimulatedCluster(directory=directory, nodes=5, seed=1),
    }


def condition(cluster: str, fault: Fault) -> str | None:
    """What decides whether a cluster can do a fault, if it is not the cluster alone."""
    return CONDITIONS.get((cluster, f"{fault.family}:{fault.name}")) or CONDITIONS.get((cluster, fault.family))


class Table:
    """The rows, and the footnotes that they refer to."""

    def __init__(self, by_name: Mapping[str, Cluster], proven: Mapping[str, list[str]]) -> None:
        self._clusters = by_name
        self._proven = proven
        self._notes: dict[str, int] = {}

    def lines(self) -> Iterator[str]:
        """Markdown, a line each."""
        yield "| family | " + " | ".join(f"`{name}`" for name in self._clusters) + " |"
        yield "|---|" + "---|" * len(self._clusters)
        for family in FAMILIES.values():
            cells = [self._cell(name, family.faults) for name in self._clusters]
            yield f"| `{family.name}` | " + " | ".join(cells) + " |"
        yield ""
        for note, number in self._notes.items():
            yield f"{number}. {note}"

    def _cell(self, name: str, faults: Iterable[Fault]) -> str:
        groups: dict[str, list[str]] = defaultdict(list)
        for fault in faults:
            groups[self._word(name, fault)].append(fault.name)
        if len(groups) == 1:
            return next(iter(groups))
        return "; ".join(f"{word}: {', '.join(kinds)}" for word, kinds in groups.items())

    def _word(self, name: str, fault: Fault) -> str:
        """One of "works", "no" and "not run", with the number of what there is to say of it."""
        is_proven = f"{fault.family}:{fault.name}" in self._proven.get(name, ())
        if (needs := condition(name, fault)) is not None:
            return f"{'works' if is_proven else 'not run'} ({self._note(needs)})"
        reason = fault.lacks(self._clusters[name])
        if reason is None:
            return "works" if is_proven else "not run"
        if is_proven:
            raise SplitvoteError(f"{fault.family}:{fault.name} was proven on {name}, which lacks it: {reason}")
        return f"no ({self._note(reason)})"

    def _note(self, text: str) -> int:
        return self._notes.setdefault(text, len(self._notes) + 1)


def table() -> str:
    """The table as it should stand in the document."""
    proven = msgspec.json.decode(PROVEN.read_bytes(), type=dict[str, list[str]])
    with tempfile.TemporaryDirectory() as directory:
        return "\n".join(Table(clusters(Path(directory)), proven).lines()) + "\n"


def written() -> str:
    """The table as it stands in the document."""
    return DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]


def _proven_in(store: Path) -> Iterator[tuple[str, str]]:
    """(cluster, family:kind) of every fault that a VALID run proved, at both its ends."""
    for run in runs(store):
        results, config = load_results(run.path), load_config(run.path)
        if results is None or config is None or results.verdict is not Verdict.VALID:
            continue
        phases: dict[int, set[str]] = defaultdict(set)
        for record in read_faults(run.faults):
            phases[record.id].add(record.phase)
            if {"active", "healed"} <= phases[record.id]:
                yield config.cluster, f"{record.family}:{record.fault}"


def main(arguments: list[str]) -> None:
    """See the module."""
    if arguments[:1] == ["--proven"]:
        known = msgspec.json.decode(PROVEN.read_bytes(), type=dict[str, list[str]]) if PROVEN.exists() else {}
        found = {cluster: set(faults) for cluster, faults in known.items()}
        for store in map(Path, arguments[1:]):
            for cluster, fault in _proven_in(store):
                found.setdefault(cluster, set()).add(fault)
        ordered = {cluster: sorted(found[cluster]) for cluster in sorted(found)}
        PROVEN.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main(sys.argv[1:])
