"""``nodes.json`` in a run's directory: what a cluster on remote nodes consists of, so that it can be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.clusters.processes import ProcessRecord
from splitvote.harness.errors import NemesisError

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


def write_nodes(directory: Path, description: NodesDescription) -> None:
    """Replace the directory's description in one step; raises OSError."""
    file = directory / FILE_NAME
    fresh = file.with_suffix(".fresh")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(description)))
    fresh.replace(file)


def read_nodes(directory: Path) -> NodesDescription | None:
    """The directory's description; None where there is none, NemesisError when it cannot be understood."""
    file = directory / FILE_NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=NodesDescription)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as problem:
        raise NemesisError(f"cannot read {file}: {problem}; see `splitvote ps` for what runs") from None
