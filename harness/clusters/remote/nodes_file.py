"""``nodes.json`` in a run's directory: what a cluster on remote nodes consists of, so that it can be undone."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from splitvote.harness.clusters.descriptions import DescriptionFile
from splitvote.harness.clusters.processes import ProcessRecord

FILE_NAME: Final = "nodes.json"


class NodesDescription(msgspec.Struct, frozen=True):
    """The harness, the hosts as they describe themselves, how ours is known on the nodes, and whether it is there.

    ``limits`` are nodes' own limits of processors, in place of which there may be others (``throttles``).
    """

    harness: ProcessRecord
    hosts: dict[str, Any]
    token: str
    owner: str
    packets: str
    is_open: bool
    limits: dict[str, dict[str, Any]] = {}
    schema: int = 1

    def closed(self) -> NodesDescription:
        """The same, with nothing left to be undone."""
        return msgspec.structs.replace(self, is_open=False, limits={})


NODES: Final = DescriptionFile(FILE_NAME, NodesDescription, "see `splitvote ps` for what runs")
