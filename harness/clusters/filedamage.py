"""Harm done to members' files on this machine: the capability Damage of the local cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.disks.damage import damage, damageable
from splitvote.harness.errors import NemesisError

MOST_BEFORE_SNAPSHOT: Final = 100
"""After how many entries at most members make a snapshot, for there to be some when a short run comes to want them."""


class LocalDamage:
    """See ``Damage``.

    ``data_of`` tells a node's data directory, ``runs`` whether its process
    does; ``settle`` is awaited before the files are touched; after
    ``snapshot_count`` entries members make a snapshot (None: etcd's default).
    """

    def __init__(
        self,
        data_of: Callable[[str], Path],
        runs: Callable[[str], bool],
        *,
        settle: Callable[[Sequence[str]], Awaitable[None]],
        snapshot_count: int | None,
    ) -> None:
        self._data_of = data_of
        self._runs = runs
        self._settle = settle
        self._snapshot_count = snapshot_count

    def refusal(self, kind: str) -> str | None:
        """See ``Damage.refusal``."""
        return without_snapshots(kind, self._snapshot_count)

    async def damageable(self, node: str) -> frozenset[str]:
        """See ``Damage.damageable``."""
        return await asyncio.to_thread(damageable, self._data_of(node))

    async def damage(self, node: str, kind: str, pick: int) -> Mapping[str, str | int]:
        """See ``Damage.damage``."""
        if self._runs(node):
            raise NemesisError(f"{node} runs: stop it before its files are damaged")
        await self._settle([node])
        try:
            return await asyncio.to_thread(damage, self._data_of(node), kind, pick)
        except (OSError, ValueError) as failure:
            raise NemesisError(f"cannot damage {node}: {failure}") from None


def without_snapshots(kind: str, count: int | None) -> str | None:
    """Why a damage is refused where members make a snapshot after ``count`` entries (None: etcd's default); or None."""
    if not kind.startswith("snapshot") or (count is not None and count <= MOST_BEFORE_SNAPSHOT):
        return None
    return "its members make no snapshots in time (Damage): have them do, with --etcd-arg=--snapshot-count=100"


def snapshot_count(arguments: Sequence[str], given: int | None) -> int | None:
    """After how many entries members make a snapshot: the last of the flags, else what is given beside them."""
    flags = [argument.lstrip("-").partition("=") for argument in arguments]
    counts = [value for name, _, value in flags if name == "snapshot-count" and value.isdigit()]
    return int(counts[-1]) if counts else given
