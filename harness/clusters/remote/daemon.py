"""One process on a node, started so that it outlives the command that started it, and known again by its pidfile.

The pidfile holds pid, start (in ticks after boot) and the boot's id: a pid alone
is soon another's.  It is written by what becomes the process, right before it
does, so that there is no process without one.  All that is asked of a node is a
POSIX shell, ``setsid``, ``sed`` and /proc; what the answers mean is found here.

A node's process is in a folder of its own, made by us (``owner`` says for which
run), which holds everything else of that run on that node::

    FOLDER/owner   FOLDER/pid   FOLDER/etcd.log   FOLDER/data/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.joining import Content
from splitvote.harness.clusters.procfs import DEAD_STATES, STOPPED_STATES
from splitvote.harness.control import Remote
from splitvote.harness.errors import NemesisError

END_GRACE_S: Final = 20.0
_POLL_S: Final = 0.02

_FIND: Final = """
find() {  # find FOLDER: pid is that of the folder's process, which is alive; else the status is not 0
  read -r pid start boot 2>/dev/null <"$1/pid" || return 1
  read -r now </proc/sys/kernel/random/boot_id
  [ "$boot" = "$now" ] || return 1
  fields=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) || return 1
  case $fields in Z*|X*) return 1; esac  # it has ended, though nobody may ever reap it
  set -- "$start" $fields
  [ "${21}" = "$1" ]
}
"""

_START: Final = """
folder=$1; shift
rm -f "$folder/pid"
mkdir -p "$folder/data" && chmod 700 "$folder/data" || exit 1
cd "$folder" || exit 1
setsid sh -c '
  read -r boot </proc/sys/kernel/random/boot_id
  set -- "$(sed "s/.*) //" /proc/$$/stat | cut -d " " -f 20)" "$boot" "$@"
  echo "$$ $1 $2" >pid.fresh && mv pid.fresh pid || exit 1
  shift 2
  exec "$@"
' sh "$@" >>etcd.log 2>&1 </dev/null &
child=$!
until [ -e pid ]; do kill -0 "$child" || exit 1; sleep 0.01; done
"""

STATE: Final = _FIND + 'find "$1" || exit 0; echo "$pid"; cat /proc/$pid/task/*/stat 2>/dev/null; true'
"""Prints the pid of the process of the folder $1 and its threads' stat lines; nothing when there is none."""

_SIGNAL: Final = (
    _FIND + 'folder=$1; shift; find "$folder" || exit 0; for sign in "$@"; do kill -s "$sign" -- "-$pid"; done; true'
)

_END: Final = (
    _FIND
    + """
folder=$1 looks=$2; shift 2
find "$folder" || exit 0
for sign in "$@"; do kill -s "$sign" -- "-$pid"; done
while [ "$looks" -gt 0 ] && find "$folder"; do sleep 0.02; looks=$((looks - 1)); done
"""
)
"""One command instead of many: each costs a way to the node and back."""

_CLAIM: Final = (
    _FIND
    + """
umask 077
mkdir -p "${1%/*}" || exit 1
for other in "${1%/*}"/run-*; do
  if [ "$other" != "$1" ] && (find "$other"); then
    echo "another run is on it, of $(cat "$other/owner"): wait for its end, or heal it" >&2; exit 1
  fi
done
if mkdir "$1" 2>/dev/null; then printf '%s\\n' "$2" >"$1/owner"; exit; fi
owner=$(cat "$1/owner" 2>/dev/null); [ "$owner" = "$2" ] && exit 0
echo "$1 is not of our making, but of: ${owner:-somebody}" >&2; exit 1
"""
)

_REMOVE: Final = 'owner=$(cat "$1/owner" 2>/dev/null); [ "$owner" = "$2" ] || exit 0; rm -rf "$1"'

_WIPE: Final = 'rm -rf "$1"/* "$1"/.[!.]* "$1"/..?*'

_LOOK: Final = """
ls "$1"/data/member/wal/*.wal >/dev/null 2>&1 && echo log && exit
[ -n "$(ls "$1/data" 2>/dev/null)" ] && echo other || echo blank  # of ours there may be a file with a dot
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What /proc says of a folder's process: its pid (None: there is none) and its threads' states."""

    pid: int | None
    states: frozenset[str] = frozenset()

    @property
    def state(self) -> ProcessState:
        """Running, paused (every thread is stopped), or stopped (gone, or a zombie)."""
        if self.pid is None or not self.states:
            return ProcessState.STOPPED
        return ProcessState.PAUSED if self.states <= STOPPED_STATES else ProcessState.RUNNING


def read_found(output: str) -> Found:
    """Understand what the state script printed: nothing, or a pid and its threads' stat lines."""
    lines = output.splitlines()
    if not lines:
        return Found(None)
    states = {line.rpartition(")")[2].split()[0] for line in lines[1:] if ")" in line}
    return Found(int(lines[0]), frozenset(states - DEAD_STATES))


class Daemon:
    """The process of one folder on one node; ``owner`` is the line by which we know the folder as ours."""

    def __init__(self, remote: Remote, folder: str, owner: str) -> None:
        self.remote = remote
        self.folder = folder
        self._owner = owner

    def inner(self, name: str) -> Daemon:
        """The process of a folder in its folder."""
        return Daemon(self.remote, f"{self.folder}/{name}", self._owner)

    @property
    def log(self) -> str:
        """Where its output goes, on the node."""
        return f"{self.folder}/etcd.log"

    @property
    def data(self) -> str:
        """Where its data lies, on the node."""
        return f"{self.folder}/data"

    async def claim(self) -> None:
        """Make the folder, or see that it is ours; raises ControlError when it is another's, or another run is here."""
        await self.remote.sh(_CLAIM, self.folder, self._owner, account="root")

    async def remove(self) -> None:
        """Remove the folder with all there is in it, if it is ours; the process must have ended."""
        await self.remote.sh(_REMOVE, self.folder, self._owner, account="root", timeout_s=30.0)

    async def is_ours(self) -> bool:
        """Whether there is such a folder, and we made it."""
        command = ["cat", f"{self.folder}/owner"]
        return (await self.remote.run(command, account="root", expected=(0, 1))).text.strip() == self._owner

    async def has_log(self) -> bool:
        """Whether there is a log."""
        return (await self.remote.run(["test", "-e", self.log], account="root", expected=(0, 1))).status == 0

    async def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a command with this environment and no other; returns once it has its pidfile."""
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
        await self.remote.sh(_START, self.folder, *words, account="root")

    async def look(self) -> Found:
        """What /proc says now."""
        return read_found((await self.remote.sh(STATE, self.folder, account="root")).text)

    async def content(self) -> Content:
        """What there is of data."""
        said = (await self.remote.sh(_LOOK, self.folder, account="root")).text.strip()
        if said not in get_args(Content):
            raise NemesisError(f"{self.remote.name}: nobody knows what there is in {self.data}: {said!r}")
        return cast("Content", said)

    async def wipe(self) -> None:
        """Remove the data; their folder stays, since something may be mounted there."""
        await self.remote.sh(_WIPE, self.data, account="root", timeout_s=30.0)

    async def signal(self, *signs: str) -> None:
        """Send signals ("KILL") to the process and those it has started; does nothing where there is none."""
        await self.remote.sh(_SIGNAL, self.folder, *signs, account="root")

    async def until(self, wanted: ProcessState, *, timeout_s: float) -> Found:
        """Look until the process is in a state, or has ended, or the bound is over; the last look."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            found = await self.look()
            if found.state in (wanted, ProcessState.STOPPED) or loop.time() > deadline_s:
                return found
            await asyncio.sleep(_POLL_S)

    async def end(self, *signs: str, timeout_s: float) -> None:
        """Send signals, and wait until the process is gone; raises NemesisError when it is not in time."""
        looks = str(round(timeout_s / _POLL_S))
        await self.remote.sh(_END, self.folder, looks, *signs, account="root", timeout_s=timeout_s + END_GRACE_S)
        found = await self.look()
        if found.state is not ProcessState.STOPPED:
            raise NemesisError(
                f"{self.remote.name} (pid {found.pid} there) is not gone {timeout_s:g} s after SIG{signs[0]}"
            )
