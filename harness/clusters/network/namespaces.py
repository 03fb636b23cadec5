"""Network namespaces that one process makes and keeps, and in which it runs commands: the program behind ``netns``.

They have no names: they live as long as this process, or a member that runs in
them, and it ends with the harness; so there is nothing to be cleaned up.  None
of them has a way out: no interface leads to a namespace that was not made here.

As root they are made as such; an ordinary user makes a user namespace around
them, in which it is root (user_namespaces(7)).

Run as ``python -m splitvote.harness.clusters.network.namespaces``, controlled over
stdin (``controlled``), or with ``--probe``, when it tries everything out and
prints a ``Means`` as JSON.  Threads: none, since the kernel lets only a process
without any enter a user namespace.

=================================================  ===============================================
``{"do": "make", "names": [...], "as": "user"}``   ``{"user": descriptor or null, "namespaces": {name: descriptor}}``
``{"do": "run", "work": {name: [[argv, stdin]]}}`` ``{"outputs": {name: [stdout, ...]}}``
=================================================  ===============================================

Commands of one namespace run one after the other, namespaces beside each other.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

TOOLS_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""Where ip and nft are: an ordinary user's own path often lacks them."""

COMMAND_TIMEOUT_S: Final = 8.0
AS_ROOT, AS_USER = "root", "user"

_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWUSER: Final = 0x10000000
_PR_SET_DUMPABLE: Final = 4

_OBSTACLES: Final = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
"""What keeps ordinary users from namespaces: a file, the value that does, and what root says to allow them."""

Work = dict[str, list[tuple[list[str], str]]]


class Keeper:
    """The namespaces, by name, and what is run in them."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._namespaces: dict[str, int] = {}
        self._user: int | None = None

    def make(self, names: list[str], kind: str | None = None) -> dict[str, Any]:
        """Make them, as ``kind`` says (None: as root if we may); raises OSError, saying what would help."""
        if kind != AS_USER and self._may_as_root():
            kind = AS_ROOT
        else:
            self._enter_user_namespace()
            kind = AS_USER
        for name in names:
            self._unshare(_CLONE_NEWNET)
            self._namespaces[name] = os.open("/proc/self/ns/net", os.O_RDONLY)
        # The harness opens our descriptors, which a change of credentials may have made unreadable.
        self._libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        return {"as": kind, "user": self._user, "namespaces": self._namespaces}

    def _may_as_root(self) -> bool:
        try:
            self._unshare(_CLONE_NEWNET)
        except PermissionError:
            return False
        return True

    def _enter_user_namespace(self) -> None:
        uid, gid = os.geteuid(), os.getegid()
        try:
            self._unshare(_CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            self._unshare(_CLONE_NEWNET)
        except OSError as failure:
            raise OSError(failure.errno, f"{failure.strerror}: no user namespace; {_way_out()}") from None
        self._user = os.open("/proc/self/ns/user", os.O_RDONLY)

    def _unshare(self, flags: int) -> None:
        if self._libc.unshare(flags) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def run(self, work: Work) -> dict[str, list[str]]:
        """Run commands; raises OSError with the words of the first that fails, ValueError for an unknown namespace."""
        if strange := [name for name in work if name not in self._namespaces]:
            raise ValueError(f"there is no namespace {strange[0]!r}")
        outputs: dict[str, list[str]] = {name: [] for name in work}
        for turn in range(max(map(len, work.values()), default=0)):
            started = {name: self._start(name, *todo[turn]) for name, todo in work.items() if turn < len(todo)}
            endings = {name: _end(child) for name, child in started.items()}
            for name, (code, output, error) in endings.items():
                if code != 0:
                    said = " ".join(error.split()) or f"exit status {code}"
                    raise OSError(f"{' '.join(work[name][turn][0])} in {name}: {said}")
                outputs[name].append(output)
        return outputs

    def _start(self, name: str, argv: list[str], text: str) -> subprocess.Popen[str]:
        """Start a command in a namespace: children run where we are when they are made."""
        if self._libc.setns(self._namespaces[name], _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=tuple(self._namespaces.values()),
            env={**os.environ, "PATH": TOOLS_PATH, "LC_ALL": "C", "XTABLES_LOCKFILE": "/dev/null"},
        )
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it failed without reading: its status tells
            child.stdin.write(text)
            child.stdin.flush()
        return child

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; raises what ``make`` and ``run`` do."""
        match request["do"]:
            case "make":
                return self.make(request["names"], request["as"])
            case "run":
                return {"outputs": self.run(request["work"])}
            case unknown:
                raise ValueError(f"cannot do {unknown!r}")


def _end(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for it; its status, what it printed, and what it complained of."""
    try:
        output, error = child.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return -1, "", f"not done within {COMMAND_TIMEOUT_S:g} s"
    return child.returncode, output, error


def _way_out() -> str:
    for file, obstacle, remedy in _OBSTACLES:
        with suppress(OSError):
            if Path(file).read_text().strip() == obstacle:
                return f"{file} is {obstacle}: `{remedy}`, or run as root"
    return "a container's filter, perhaps, forbids unshare: run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"


def serve(control: socket.socket) -> None:
    """Serve the harness on this socket until it closes it."""
    keeper = Keeper()
    with control.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            try:
                answer = keeper.answer(request)
            except (OSError, KeyError, TypeError, ValueError) as problem:
                answer = {"error": str(problem)}
            lines.write(json.dumps({**answer, "id": request.get("id")}) + "\n")
            lines.flush()


def probe(kind: str | None) -> dict[str, Any]:
    """Try out, in namespaces of our own, what this machine can do (``netns.Means``)."""
    found: dict[str, Any] = {"problems": [], "filters": [], "qdiscs": []}
    if missing := [tool for tool in ("ip", "tc") if shutil.which(tool, path=TOOLS_PATH) is None]:
        found["problems"].append(f"no {' and no '.join(missing)}: install iproute2")
    keeper = Keeper()
    try:
        found["kind"] = keeper.make(["a", "b"], kind)["as"]
    except OSError as failure:
        found["problems"].append(failure.strerror or str(failure))
    if found["problems"]:
        return found
    for what, trial in _TRIALS.items():
        try:
            keeper.run({"a": [(argv, text) for argv, text in trial]})
        except OSError as failure:
            found.setdefault("failures", {})[what] = str(failure)
            continue
        group, _, name = what.partition(":")
        if name:
            found[group].append(name)
    if "links" in found.get("failures", {}):
        found["problems"].append(f"no virtual links: {found['failures']['links']}")
    if not found["filters"]:
        found["problems"].append("no packet filter: install nftables (or iptables), and a kernel that has it")
    return found


def _trials() -> dict[str, list[tuple[list[str], str]]]:
    chain = "chain c { type filter hook input priority 0; numgen random mod 1000000 < 10 drop; }"
    tables = "*filter\n-A INPUT -s 198.18.0.1 -m statistic --mode random --probability 0.01 -j DROP\nCOMMIT\n"
    return {
        "links": [(["ip", "-batch", "-"], "link add bridge0 type bridge\nlink add veth0 type veth peer name veth1\n")],
        "filters:nft": [(["nft", "-f", "-"], f"table ip probe {{\n counter n {{ }}\n {chain}\n}}\n")],
        "filters:iptables": [(["iptables-restore"], tables), (["iptables-save", "-c"], "")],
        "qdiscs:htb": [(["tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb"], "")],
        "qdiscs:netem": [(["tc", "qdisc", "replace", "dev", "lo", "root", "netem", "delay", "1ms"], "")],
    }


_TRIALS: Final = _trials()


def main() -> None:
    """Serve on stdin until it closes, or probe."""
    if sys.argv[1:2] == ["--probe"]:
        print(json.dumps(probe(sys.argv[2] if len(sys.argv) > 2 else None)))
        return
    with suppress(KeyboardInterrupt, ConnectionError):
        serve(socket.socket(fileno=0))


if __name__ == "__main__":
    main()
