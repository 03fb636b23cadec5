"""Which containers of a user's compose project are the members of the etcd cluster, and where each of them is.

Containers are found by the labels that Compose (1.29's or v2's) puts on them.
A member is a container whose first process is etcd, or one with the labels the
user names; a node is called as its service is.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from splitvote.harness.cluster import CLIENT
from splitvote.harness.clusters.attached.engine import Container, Engine, EngineError, NoSuchContainer
from splitvote.harness.errors import ConfigError

PROJECT: Final = "com.docker.compose.project"
SERVICE: Final = "com.docker.compose.service"
NUMBER: Final = "com.docker.compose.container-number"
FILES: Final = "com.docker.compose.project.config_files"
DIRECTORY: Final = "com.docker.compose.project.working_dir"
ONE_OFF: Final = "com.docker.compose.oneoff"
CLIENT_PORT: Final = 2379
_NAME: Final = re.compile(r"[A-Za-z][\w.-]*")


class ProjectNode(msgspec.Struct, frozen=True):
    """A member: its container, the port inside that clients use, and whether they use TLS.

    With ``is_volatile`` its data, or itself, may be lost when its process ends.
    """

    name: str
    container: str
    client_port: int = CLIENT_PORT
    has_tls: bool = False
    is_volatile: bool = False

    def endpoint(self, container: Container, network: str | None) -> str:
        """Where clients find it as the container is now: its published port if it has one, else its own address."""
        if (published := container.published.get(self.client_port)) is not None:
            return published
        address = container.addresses.get(network or "") or next(iter(container.addresses.values()), "")
        if not address:
            raise EngineError(f"{self.name} has neither a published port {self.client_port} nor an address")
        return f"{address}:{self.client_port}"


class FoundProject(msgspec.Struct, frozen=True):
    """A compose project: its name, its members in the services' order, and the network all of them are on, if any."""

    name: str
    nodes: tuple[ProjectNode, ...]
    network: str | None


def find_project(engine: Engine, wanted: str, service_labels: Sequence[str] = ()) -> FoundProject:
    """Find the members of the project that a file or a name means; raises ConfigError, saying what there is instead.

    ``service_labels`` are KEY=VALUE, or KEY for any value.
    """
    containers = [each for each in in_projects(engine) if each.labels.get(ONE_OFF, "False").lower() != "true"]
    project = _project_named(wanted, containers)
    mine = [each for each in containers if each.labels[PROJECT] == project]
    members = [each for each in mine if _is_wanted(engine, each, service_labels)]
    if not members:
        services = ", ".join(sorted({each.labels.get(SERVICE, "?") for each in mine}))
        how = f"the label {', '.join(service_labels)}" if service_labels else "etcd as its first process"
        raise ConfigError(f"--project {wanted}: none of its services ({services}) has {how}; see --service-label")
    for each in members:
        if each.status != "running":
            raise ConfigError(f"--project {wanted}: {each.name} is {each.status}: a run begins on a cluster that is up")
    networks = [set(each.addresses) for each in members]
    shared = sorted(set.intersection(*networks))
    return FoundProject(project, _nodes(members), shared[0] if shared else None)


def in_projects(engine: Engine) -> list[Container]:
    """Every container of any compose project, but those that are gone by the time they are looked at."""
    found = []
    for each in engine.find({PROJECT: ""}):
        with contextlib.suppress(NoSuchContainer):
            found.append(engine.inspect(each))
    return found


def _project_named(wanted: str, containers: Sequence[Container]) -> str:
    """The project's name; a file means the project whose containers were made from it."""
    names = sorted({each.labels[PROJECT] for each in containers})
    path = Path(wanted)
    if not path.is_file():
        if wanted not in names:
            raise ConfigError(f"--project {wanted}: no such file, nor project; there are: {', '.join(names) or 'none'}")
        return wanted
    found = sorted({each.labels[PROJECT] for each in containers if _is_made_from(each, path.resolve())})
    if len(found) != 1:
        what = f"several projects are up from this file ({', '.join(found)})" if found else "no project is up from it"
        raise ConfigError(f"--project {wanted}: {what}; give the name of one of: {', '.join(names) or 'none'}")
    return found[0]


def _is_made_from(container: Container, file: Path) -> bool:
    """Whether Compose made it from this file; 1.29 notes paths as they were given, wherever that was."""
    home = Path(container.labels.get(DIRECTORY, "/"))
    for named in container.labels.get(FILES, "").split(","):
        given = Path(named)
        if (home / given).resolve() == file or (home == file.parent and given.name == file.name):
            return True
    return False


def _is_wanted(engine: Engine, container: Container, labels: Sequence[str]) -> bool:
    if labels:
        return all(_has_label(container, label) for label in labels)
    path, *_ = container.command or ("",)
    if container.is_up:
        path, *_ = engine.first_process(container.id).split() or [""]
    return Path(path).name == "etcd"


def _has_label(container: Container, label: str) -> bool:
    key, has_value, value = label.partition("=")
    return key in container.labels and (not has_value or container.labels[key] == value)


def _nodes(members: Sequence[Container]) -> tuple[ProjectNode, ...]:
    """The members by their services' names, with the container's number where a service has several."""
    counts = Counter(each.labels.get(SERVICE, each.name) for each in members)
    nodes = []
    for each in members:
        service = each.labels.get(SERVICE, each.name)
        name = service if counts[service] == 1 else f"{service}-{each.labels.get(NUMBER, '1')}"
        if name == CLIENT or _NAME.fullmatch(name) is None:
            name = f"node-{name}"
        port, has_tls = client_port_of(each.command, each.environment)
        nodes.append(ProjectNode(name, each.id, port, has_tls, is_volatile(each)))
    return tuple(sorted(nodes, key=lambda node: _natural(node.name)))


def _natural(name: str) -> list[tuple[int, str]]:
    """An order in which etcd2 comes before etcd10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def is_volatile(container: Container) -> bool:
    """Whether the data of an etcd in this container may be lost with its process.

    Where it does not say where its data are, any tmpfs may have them.
    """
    data = _setting("data-dir", container.command, container.environment)
    places = [Path(place) for place in container.tmpfs]
    return container.auto_remove or any(
        not data or place == Path(data) or place in Path(data).parents for place in places
    )


def _setting(flag: str, command: Sequence[str], environment: Sequence[str]) -> str:
    """What an etcd with these flags and variables was told; a flag goes before its variable."""
    variable = f"ETCD_{flag.upper().replace('-', '_')}"
    variables: Mapping[str, str] = dict(each.split("=", 1) for each in environment if "=" in each)
    found = variables.get(variable, "")
    for place, word in enumerate(command):
        name, has_value, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == flag:
            found = value if has_value else (command[place + 1] if place + 1 < len(command) else "")
    return found


def client_port_of(command: Sequence[str], environment: Sequence[str]) -> tuple[int, bool]:
    """The port that an etcd with these flags and variables serves clients on, and whether by TLS.

    Its own default where they do not say.
    """
    urls = _setting("listen-client-urls", command, environment)
    for url in filter(None, urls.split(",")):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            return parts.port or CLIENT_PORT, parts.scheme == "https"
    return CLIENT_PORT, False
