"""A docker engine in memory, with containers and their network namespaces, for tests of what is done through it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from splitvote.harness.clusters.attached.engine import Container, Incarnation, NoSuchContainer

NETWORK = "shop_default"
FACTS = "filter=nft\nqdisc=htb\nqdisc=netem\n"
_COUNTER = re.compile(r"counter ((?:to|from)_[\w.-]+) \{ \}")


def container(name: str, **fields: object) -> Container:
    """A running etcd of the compose project ``shop``."""
    number = int(name[-1])
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": name,
        "com.docker.compose.container-number": "1",
        "com.docker.compose.project.working_dir": "/srv/shop",
        "com.docker.compose.project.config_files": "compose.yml",
        "role": "store",
    }
    made = Container(
        id=f"id-{name}",
        name=f"shop_{name}_1",
        status="running",
        incarnation=Incarnation(100 + number, "2026-01-01T00:00:00Z"),
        labels=labels,
        command=("/usr/local/bin/etcd", f"--name={name}", "--listen-client-urls=http://0.0.0.0:2379"),
        addresses={NETWORK: f"172.20.0.{number}"},
        published={2379: f"127.0.0.1:3200{number}"},
    )
    return msgspec.structs.replace(made, **fields)


@dataclass
class Namespace:
    """What is in a network namespace: rules for packets, queues, and what was counted."""

    rules: str = ""
    queues: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    addresses: str = ""
    has_interface: bool = True
    commands: list[str] = field(default_factory=list)


class FakeEngine:
    """See ``Engine``; what it was told is in ``calls``.

    ``watched`` are containers that something starts again as soon as they end;
    ``moves`` are the addresses and ports that containers get at their next start.
    """

    def __init__(self, containers: Sequence[Container]) -> None:
        self.containers = {each.id: each for each in containers}
        self.namespaces = {each.id: Namespace() for each in containers}
        self.helpers: dict[str, tuple[dict[str, str], Namespace]] = {}
        self.processes: dict[str, str] = {}
        self.watched: set[str] = set()
        self.moves: dict[str, tuple[str, str]] = {}
        self.calls: list[str] = []
        self.facts = FACTS
        self._numbers = itertools.count(1)

    def find(self, labels: Mapping[str, str]) -> list[str]:
        known = {name: each.labels for name, each in self.containers.items()}
        known |= {name: helper for name, (helper, _) in self.helpers.items()}
        return [
            name
            for name, theirs in known.items()
            if all(key in theirs and (not value or theirs[key] == value) for key, value in labels.items())
        ]

    def inspect(self, container: str) -> Container:
        if container not in self.containers:
            raise NoSuchContainer(container)
        return self.containers[container]

    def first_process(self, container: str) -> str:
        return self.processes.get(container) or " ".join(self.inspect(container).command)

    def _change(self, name: str, **fields: object) -> None:
        self.containers[name] = msgspec.structs.replace(self.inspect(name), **fields)

    def _end(self, name: str) -> None:
        if not self.inspect(name).is_up:
            return
        self._change(name, status="exited", incarnation=Incarnation(0, self.inspect(name).incarnation.started_at))
        self.namespaces[name].has_interface = False
        if name in self.watched:
            self._begin(name)

    def _begin(self, name: str) -> None:
        number = next(self._numbers)
        self._change(name, status="running", incarnation=Incarnation(1000 + number, f"start {number}"))
        self.namespaces[name] = Namespace()
        if name in self.moves:
            address, published = self.moves.pop(name)
            self._change(name, addresses={NETWORK: address}, published={2379: published})

    def kill(self, container: str) -> None:
        self.calls.append(f"kill {container}")
        self._end(container)

    def stop(self, container: str) -> None:
        self.calls.append(f"stop {container}")
        self._end(container)

    def start(self, container: str) -> None:
        self.calls.append(f"start {container}")
        if not self.inspect(container).is_up:
            self._begin(container)

    def pause(self, container: str) -> None:
        self.calls.append(f"pause {container}")
        self._change(container, status="paused")

    def unpause(self, container: str) -> None:
        self.calls.append(f"unpause {container}")
        self._change(container, status="running")

    def join_network(self, container: str, *, image: str, labels: Mapping[str, str]) -> str:
        made = f"helper-{next(self._numbers)}"
        places = enumerate(self.inspect(container).addresses.values(), 2)
        lines = [f"{n}: eth{n - 2}    inet {place}/24 brd 1.2.3.4 scope global eth{n - 2}" for n, place in places]
        self.namespaces[container].addresses = "\n".join(["1: lo    inet 127.0.0.1/8 scope host lo", *lines])
        self.helpers[made] = (dict(labels), self.namespaces[container])
        return made

    def run_once(self, image: str, script: str) -> str:
        return self.facts

    def remove(self, container: str) -> None:
        assert container not in self.containers, "a user's container was removed"
        self.helpers.pop(container, None)

    def save_log(self, container: str, since_s: float, destination: Path) -> None:
        destination.write_text(f"log of {container}\n")

    def transport(self, helper: str) -> FakeHelperTransport:
        """The way into a helper."""
        return FakeHelperTransport(self.helpers[helper][1])


class FakeHelperTransport:
    """See ``Transport``: nft, tc and ip, as far as they are told things here."""

    is_root = True

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        text = stdin.read().decode()
        tool = next(word for word in command if word in ("nft", "tc", "ip", "sh"))  # it may be run by `timeout`
        command = command[command.index(tool) :]
        self._namespace.commands.append(" ".join(command) + text)
        match command[0]:
            case "nft" if "-f" in command:
                self._apply(text)
            case "nft":
                counters = [{"counter": {"name": n, "bytes": b}} for n, b in self._namespace.counters.items()]
                stdout.write(json.dumps({"nftables": counters}).encode())
            case "tc" if not self._namespace.has_interface:
                return 1, b"Cannot find device"
            case "tc":
                self._namespace.queues += text.splitlines()
            case "ip" if "addr" in command:
                stdout.write(self._namespace.addresses.encode())
            case "sh":
                self._namespace.queues = []
        return 0, b""

    def _apply(self, text: str) -> None:
        if "delete table" in text:
            self._namespace.rules = ""
            self._namespace.counters = dict.fromkeys(_COUNTER.findall(text), 0)
        if "flush chain" in text:
            self._namespace.rules = "\n".join(line for line in text.splitlines() if line.startswith("add rule"))

    def close(self) -> None:
        pass
