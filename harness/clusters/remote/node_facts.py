"""What nodes have for etcd and for faults, found out by one script on one of them: pure text, but for the asking.

The script ($1: the etcd, if not the one on PATH) prints ``name=value`` lines; it leaves nothing behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.clusters.remote.agents import probe_script
from splitvote.harness.clusters.remote.node_agent import WORKS
from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.etcd.daemon import Etcd, read_version

_SHELL: Final = """
if etcd=$(command -v "${1:-etcd}"); then
  echo "etcd=$etcd"
  echo "version=$("$etcd" --version 2>/dev/null | head -n 1)"
fi
probe='table ip splitvote_probe { chain c { numgen random mod 1000000 < 10 drop; }; }'
if echo "$probe" | nft -f - 2>/dev/null; then echo filter=nft; nft delete table ip splitvote_probe
elif iptables -N splitvote_probe 2>/dev/null; then  # not otherwise: it may leave an empty table of its own
  iptables -A splitvote_probe -m statistic --mode random --probability 0.01 -j DROP 2>/dev/null && echo filter=iptables
  iptables -F splitvote_probe; iptables -X splitvote_probe
fi
for qdisc in htb netem; do
  if tc qdisc add dev lo root handle 1: "$qdisc" 2>/dev/null; then echo "qdisc=$qdisc"; tc qdisc del dev lo root; fi
done
command -v python3 >/dev/null && echo tool=python3
true
"""
SCRIPT: Final = _SHELL + probe_script()
NO_AGENT: Final = "it takes a python3 (3.10 or later) on the nodes"


class NodeFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """An etcd on the nodes' PATH if there is one, the packet filters and queues that work, and what else is there.

    ``etcd`` is its path and what it says of its version; ``filters`` are of nft
    and iptables, ``qdiscs`` of htb and netem, the better first.  ``clock`` is
    why a single process's clocks cannot be set, ``agent`` why no agent of ours
    runs there (``node_agent``), ``disk`` why no disk of ours can be mounted
    (``node_disk``); None where they can.
    """

    etcd: tuple[str, str] | None = None
    filters: tuple[str, ...] = ()
    qdiscs: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    clock: str | None = NO_AGENT
    agent: str | None = NO_AGENT
    disk: str | None = NO_AGENT

    def binary(self, where: str) -> Etcd:
        """The etcd on their PATH; raises EnvironmentFailure where there is none, or something else of that name."""
        if self.etcd is None:
            raise EnvironmentFailure(f"there is no etcd on {where}: give --etcd PATH, which is brought there")
        path, words = self.etcd
        try:
            return read_version(Path(path), words)
        except ConfigError as problem:
            raise EnvironmentFailure(f"{where}: {problem}") from None


def common_facts(each: Sequence[NodeFacts]) -> NodeFacts:
    """What several nodes all have; an etcd only where it is the same."""
    first = each[0]

    def shared(names: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(name for name in names if all(name in other for other in others))

    return NodeFacts(
        etcd=first.etcd if all(facts.etcd == first.etcd for facts in each) else None,
        filters=shared(first.filters, [facts.filters for facts in each]),
        qdiscs=shared(first.qdiscs, [facts.qdiscs for facts in each]),
        tools=shared(first.tools, [facts.tools for facts in each]),
        clock=next((facts.clock for facts in each if facts.clock is not None), None),
        agent=next((facts.agent for facts in each if facts.agent is not None), None),
        disk=next((facts.disk for facts in each if facts.disk is not None), None),
    )


def read_facts(output: str) -> NodeFacts:
    """Understand what the script printed."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in output.splitlines():
        name, is_fact, value = line.partition("=")
        if is_fact:
            found[name].append(value)
    etcd = (found["etcd"][0], found["version"][0]) if found["etcd"] and found["version"] else None
    against = {name: (found[name] or [NO_AGENT])[0] for name in ("clock", "agent", "disk")}
    return NodeFacts(
        etcd,
        tuple(found["filter"]),
        tuple(found["qdisc"]),
        tuple(found["tool"]),
        **{name: None if why == WORKS else why for name, why in against.items()},
    )
