"""What nodes have for etcd and for faults, found out by one script on one of them: pure text, but for the asking.

The script prints ``name=value`` lines; it leaves nothing behind.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.etcd.daemon import Etcd, read_version

SCRIPT: Final = """
if etcd=$(command -v etcd); then
  echo "etcd=$etcd"
  echo "version=$(etcd --version 2>/dev/null | head -n 1)"
fi
probe='table ip splitvote_probe { chain c { numgen random mod 1000000 < 10 drop; }; }'
if echo "$probe" | nft -f - 2>/dev/null; then echo filter=nft; nft delete table ip splitvote_probe; fi
if iptables -N splitvote_probe 2>/dev/null; then
  iptables -A splitvote_probe -m statistic --mode random --probability 0.01 -j DROP 2>/dev/null && echo filter=iptables
  iptables -F splitvote_probe; iptables -X splitvote_probe
fi
for qdisc in htb netem; do
  if tc qdisc add dev lo root handle 1: "$qdisc" 2>/dev/null; then echo "qdisc=$qdisc"; tc qdisc del dev lo root; fi
done
command -v python3 >/dev/null && echo tool=python3
true
"""


class NodeFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """An etcd on the nodes' PATH if there is one, the packet filters and queues that work, and what else is there.

    ``etcd`` is its path and what it says of its version; ``filters`` are of nft
    and iptables, ``qdiscs`` of htb and netem, the better first.
    """

    etcd: tuple[str, str] | None = None
    filters: tuple[str, ...] = ()
    qdiscs: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def binary(self, where: str) -> Etcd:
        """The etcd on their PATH; raises EnvironmentFailure where there is none, or something else of that name."""
        if self.etcd is None:
            raise EnvironmentFailure(f"there is no etcd on {where}: give --etcd PATH, which is brought there")
        path, words = self.etcd
        try:
            return read_version(Path(path), words)
        except ConfigError as problem:
            raise EnvironmentFailure(f"{where}: {problem}") from None


def read_facts(output: str) -> NodeFacts:
    """Understand what the script printed."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in output.splitlines():
        name, is_fact, value = line.partition("=")
        if is_fact:
            found[name].append(value)
    etcd = (found["etcd"][0], found["version"][0]) if found["etcd"] and found["version"] else None
    return NodeFacts(etcd, tuple(found["filter"]), tuple(found["qdisc"]), tuple(found["tool"]))
