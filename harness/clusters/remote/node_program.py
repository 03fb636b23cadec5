"""The one file of ours that runs on nodes, by their own Python: which of its programs is asked for::

    python3 -I PROGRAM FOLDER                the agent of a folder (``node_agent``)
    python3 -I PROGRAM --disk FOLDER DATA    the disk under a member's data (``node_disk``)
    python3 -I PROGRAM --probe               prints what of this can be done there, as name=value lines

It needs Python's own library only, as do all the modules it stands on.
"""

from __future__ import annotations

from splitvote.harness.clusters.remote import node_agent, node_disk


def main(arguments: list[str]) -> None:
    """See the module."""
    match arguments:
        case ["--probe"]:
            print("\n".join([*node_agent.probe(), *node_disk.probe()]))
        case ["--disk", folder, data]:
            node_disk.main(folder, data)
        case [folder]:
            node_agent.main(folder)
        case _:
            raise SystemExit(f"there is no such program: {' '.join(arguments)}")
