"""A program of ours on remote nodes (``node_program``): brought there when it is first needed; its agents are asked.

What a node is sent is one file, a zip of the very modules that this machine
runs, which the node's Python runs as it is.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.control import Conversation, ConversationEnded
from splitvote.harness.errors import NemesisError

FOLDER: Final = "agent"
"""Where the agent is, in the folder of a node's member."""

MODULES: Final = (
    "harness/errors.py",
    "harness/clusters/cpugroups.py",
    "harness/clusters/disks/damage.py",
    "harness/clusters/disks/files.py",
    "harness/clusters/disks/mounts.py",
    "harness/clusters/disks/names.py",
    "harness/clusters/disks/replies.py",
    "harness/clusters/disks/server.py",
    "harness/clusters/disks/troubles.py",
    "harness/clusters/disks/unsynced.py",
    "harness/clusters/disks/wal.py",
    "harness/clusters/disks/wire.py",
    "harness/clusters/gofail.py",
    "harness/clusters/remote/node_agent.py",
    "harness/clusters/remote/node_disk.py",
    "harness/clusters/remote/node_program.py",
    "harness/clusters/procfs.py",
    "harness/clusters/clocks/vdso.py",
    "harness/clusters/clocks/vdso_code.py",
)
_MAIN: Final = "import sys\nfrom splitvote.harness.clusters.remote.node_program import main\nmain(sys.argv[1:])\n"
_NAME: Final = "agent.pyz"
_PACKAGES: Final = tuple(dict.fromkeys(["", "harness/", *(f"{Path(module).parent}/" for module in MODULES)]))
_DAWN: Final = (1980, 1, 1, 0, 0, 0)


@functools.cache
def program() -> bytes:
    """The program as one file; the same bytes for the same modules."""
    root = Path(__file__).resolve().parents[3]
    files = {f"splitvote/{package}__init__.py": b"" for package in _PACKAGES}
    files |= {f"splitvote/{module}": (root / module).read_bytes() for module in MODULES}
    files["__main__.py"] = _MAIN.encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DAWN), source, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def probe_script() -> str:
    """For a node's ``sh``: prints what it could do there (``node_program``), and leaves nothing behind."""
    return f"""
if command -v python3 >/dev/null && agent=$(mktemp); then
  base64 -d >"$agent" <<'END'
{base64.encodebytes(program()).decode()}END
  python3 -I "$agent" --probe 2>/dev/null
  rm -f "$agent"
fi
"""


class Placed(Protocol):
    """A member that is on a node."""

    @property
    def daemon(self) -> Daemon:
        """Its process on the node; raises NemesisError as long as the node was not reached."""
        ...


class NodeAgents:
    """One agent a node, in the folder of its member's process, from the first question on; ``close`` ends them."""

    def __init__(self, members: Mapping[str, Placed]) -> None:
        self._members = members
        self._conversations: dict[str, Conversation] = {}
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ask(self, node: str, do: str, **what: Any) -> dict[str, Any]:
        """Have it do something, which it may do twice; its answer, {"gone": true} for a process that is not there.

        Raises NemesisError when it cannot, or cannot be reached.
        """
        line = json.dumps({"do": do, **what}).encode()
        conversation = await self._conversation(node)
        try:
            reply = await conversation.ask(line)
        except ConversationEnded:  # a connection was lost, or it ended by itself: another one goes on
            await self._forget(node, conversation)
            reply = await (await self._conversation(node)).ask(line)
        return _read(node, reply)

    async def ask_once(self, node: str, do: str, **what: Any) -> dict[str, Any]:
        """As ``ask``, for what must not be done twice: raises NemesisError as well when nobody knows what became of it.

        Whoever wants a lost connection to be found out before asks something else before.
        """
        conversation = await self._conversation(node)
        return _read(node, await conversation.ask(json.dumps({"do": do, **what}).encode()))

    async def _conversation(self, node: str) -> Conversation:
        async with self._opening[node]:
            if node not in self._conversations:
                self._conversations[node] = await self._open(node)
            return self._conversations[node]

    async def _open(self, node: str) -> Conversation:
        daemon = self._members[node].daemon
        folder = f"{daemon.folder}/{FOLDER}"
        return await daemon.remote.converse([*await self.bring(node), folder], account="root")

    async def bring(self, node: str) -> list[str]:
        """Have the program on the node; the command that runs it, but for its arguments."""
        daemon = self._members[node].daemon
        folder = f"{daemon.folder}/{FOLDER}"
        await daemon.remote.run(["mkdir", "-p", folder], account="root")
        await daemon.remote.upload(program(), f"{folder}/{_NAME}", account="root")
        return ["python3", "-I", f"{folder}/{_NAME}"]

    async def _forget(self, node: str, conversation: Conversation) -> None:
        if self._conversations.get(node) is conversation:
            del self._conversations[node]
        await conversation.close()

    async def close(self) -> None:
        """End them all: they end with their input.  Idempotent."""
        for node, conversation in list(self._conversations.items()):
            await self._forget(node, conversation)


def _read(node: str, reply: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(reply)
    if "error" in answer:
        raise NemesisError(f"{node}: {answer['error']}")
    return answer
