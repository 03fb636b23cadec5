"""What netfilter is told in each namespace, and what its counters say: pure text, for nft and for iptables.

A packet is counted where it leaves its source, before anything can be done to
it, and where it arrives, after everything was.  It is dropped between the two,
at its destination: a packet dropped on its way out would be an error of the
sender's own kernel, which no lost packet is.

A node's drops are replaced in one transaction; counters are never reset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

Command = tuple[list[str], str]
"""Arguments, and what they read from stdin."""

_ALL: Final = 1_000_000
_NO_TABLE: Final = ("table ip splitvote { }", "delete table ip splitvote")
"""There is no word for deleting a table only if it exists."""


class Filter(Protocol):
    """One way to tell netfilter."""

    def begin(self, peers: Mapping[str, str]) -> Command:
        """Count what comes from, and goes to, these peers (address by name), and forget whatever was before."""
        ...

    def end(self) -> Command:
        """Have nothing of ours left, if there is anything."""
        ...

    def drop(self, shares: Mapping[str, float]) -> Command:
        """Drop this share of what arrives from each address (1: everything), and nothing else."""
        ...

    def count(self) -> Command:
        """Ask for the counters."""
        ...

    def read(self, output: str) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes that left for, and arrived from, each peer, from what ``count`` printed."""
        ...


class Nft:
    """By nft, in a table of our own; peers are told apart by their counters' names."""

    def begin(self, peers: Mapping[str, str]) -> Command:
        """See ``Filter``."""
        counters = [f"counter {way}_{name} {{ }}" for name in peers for way in ("to", "from")]
        arriving = [f'ip saddr {address} counter name "from_{name}"' for name, address in peers.items()]
        leaving = [f'ip daddr {address} counter name "to_{name}"' for name, address in peers.items()]
        return _nft(
            [
                *_NO_TABLE,
                "table ip splitvote {",
                *counters,
                "chain drops { }",
                "chain arriving {",
                "type filter hook input priority 0; policy accept;",
                "jump drops",
                *arriving,
                "}",
                "chain leaving {",
                "type filter hook output priority 0; policy accept;",
                *leaving,
                "}",
                "}",
            ]
        )

    def end(self) -> Command:
        """See ``Filter``."""
        return _nft(_NO_TABLE)

    def drop(self, shares: Mapping[str, float]) -> Command:
        """See ``Filter``."""
        rules = [
            f"add rule ip splitvote drops ip saddr {address} {_lot(share)}drop" for address, share in shares.items()
        ]
        return _nft(["flush chain ip splitvote drops", *rules])

    def count(self) -> Command:
        """See ``Filter``."""
        return ["nft", "-j", "list", "counters", "table", "ip", "splitvote"], ""

    def read(self, output: str) -> tuple[dict[str, int], dict[str, int]]:
        """See ``Filter``."""
        counters = [entry["counter"] for entry in json.loads(output)["nftables"] if "counter" in entry]
        found = {counter["name"]: counter["bytes"] for counter in counters}
        return _by_peer(found, "to_"), _by_peer(found, "from_")


def _nft(lines: Sequence[str]) -> Command:
    return ["nft", "-f", "-"], "\n".join(lines) + "\n"


def _lot(share: float) -> str:
    return "" if share >= 1 else f"numgen random mod {_ALL} < {round(share * _ALL)} "


def _by_peer(counters: Mapping[str, int], way: str) -> dict[str, int]:
    return {name.removeprefix(way): size for name, size in counters.items() if name.startswith(way)}


_OWN_CHAINS: Final = ("splitvote-in", "splitvote-out", "splitvote-drops")
_UNCHAIN: Final = f"""
while iptables -w 5 -D INPUT -j {_OWN_CHAINS[0]} 2>/dev/null; do :; done
while iptables -w 5 -D OUTPUT -j {_OWN_CHAINS[1]} 2>/dev/null; do :; done
for chain in {" ".join(_OWN_CHAINS)}; do
  iptables -w 5 -F "$chain" 2>/dev/null && iptables -w 5 -X "$chain"
done
"""


class Iptables:
    """By iptables, where there is no nft, in chains of our own before everybody else's rules, which stay.

    Peers are told apart by comments, since rules have no names.
    """

    _COUNTED: Final = re.compile(
        r"^\[\d+:(\d+)\] -A splitvote-(?:in|out) .*--comment \"?(to|from)_([\w.-]+)\"?", re.MULTILINE
    )

    def begin(self, peers: Mapping[str, str]) -> Command:
        """See ``Filter``."""
        arriving, leaving, drops = _OWN_CHAINS
        rules = [
            "*filter",
            *(f":{chain} -" for chain in _OWN_CHAINS),
            f"-A {arriving} -j {drops}",
            *(f"-A {arriving} -s {address} -m comment --comment from_{name}" for name, address in peers.items()),
            *(f"-A {leaving} -d {address} -m comment --comment to_{name}" for name, address in peers.items()),
            f"-I INPUT -j {arriving}",
            f"-I OUTPUT -j {leaving}",
            "COMMIT",
            "",
        ]
        return ["sh", "-c", f"{_UNCHAIN}\nexec iptables-restore --noflush"], "\n".join(rules)

    def end(self) -> Command:
        """See ``Filter``."""
        return ["sh", "-c", f"{_UNCHAIN}\n! iptables -w 5 -L {_OWN_CHAINS[0]} >/dev/null 2>&1"], ""

    def drop(self, shares: Mapping[str, float]) -> Command:
        """See ``Filter``."""
        drops = _OWN_CHAINS[-1]
        rules = [f"-A {drops} -s {address} {_chance(share)}-j DROP" for address, share in shares.items()]
        return ["iptables-restore", "--noflush"], "\n".join(["*filter", f":{drops} -", *rules, "COMMIT", ""])

    def count(self) -> Command:
        """See ``Filter``."""
        return ["iptables-save", "-c", "-t", "filter"], ""

    def read(self, output: str) -> tuple[dict[str, int], dict[str, int]]:
        """See ``Filter``."""
        found = {f"{way}_{name}": int(size) for size, way, name in self._COUNTED.findall(output)}
        return _by_peer(found, "to_"), _by_peer(found, "from_")


def _chance(share: float) -> str:
    return "" if share >= 1 else f"-m statistic --mode random --probability {share:.6f} "


FILTERS: Final[Mapping[str, Filter]] = {"nft": Nft(), "iptables": Iptables()}
"""By the tool, the better first."""
