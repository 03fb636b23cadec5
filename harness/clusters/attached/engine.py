"""The docker engine, as far as somebody else's containers are hurt, healed and looked at through it.

``Engine`` is the seam; everything blocks and may be called from several threads
at once.  ``DockerEngine`` is it over docker's Python library, at DOCKER_HOST.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from splitvote.harness.control.docker import HOW_TO_GET
from splitvote.harness.errors import ConfigError, NemesisError

if TYPE_CHECKING:
    import docker

ENGINE_TIMEOUT_S: Final = 60.0
RUN_TIMEOUT_S: Final = 30.0
_LOOPBACK: Final = "127.0.0.1"


class EngineError(NemesisError):
    """The engine did not do as it was told, or does not answer."""


class NoSuchContainer(EngineError):
    """There is no such container (any more)."""


class Incarnation(msgspec.Struct, frozen=True):
    """One life of a container's process: docker may start the same container again, by itself or when told."""

    pid: int
    started_at: str


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of a container.

    ``status`` is docker's (running, paused, restarting, exited, created, dead,
    removing); ``command`` its path and arguments; ``addresses`` are by network,
    ``published`` ("host:port") by the port inside; ``restart_policy`` is docker's
    name of it; ``tmpfs`` are the folders that are lost when it ends, and with
    ``auto_remove`` all of it is.
    """

    id: str
    name: str
    status: str
    incarnation: Incarnation
    labels: dict[str, str] = {}
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    addresses: dict[str, str] = {}
    published: dict[int, str] = {}
    restart_policy: str = "no"
    tmpfs: tuple[str, ...] = ()
    auto_remove: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it has a process, be it suspended."""
        return self.status in ("running", "paused")


class Engine(Protocol):
    """See the module's docstring; raises EngineError, NoSuchContainer for a container that is not there."""

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """The ids of all containers with these labels (an empty value: any), those that do not run as well."""
        ...

    def inspect(self, container: str) -> Container:
        """What there is to be known of a container."""
        ...

    def first_process(self, container: str) -> str:
        """The command line of the first process in a container that is up."""
        ...

    def kill(self, container: str) -> None:
        """Send SIGKILL; does nothing to one that does not run."""
        ...

    def stop(self, container: str) -> None:
        """Send its stop signal, and SIGKILL if it has not ended in its stop timeout."""
        ...

    def start(self, container: str) -> None:
        """Start it; does nothing to one that runs."""
        ...

    def pause(self, container: str) -> None:
        """Freeze it; does nothing to one that is frozen."""
        ...

    def unpause(self, container: str) -> None:
        """Let it go on; does nothing to one that does."""
        ...

    def join_network(self, container: str, *, image: str, labels: Mapping[str, str]) -> str:
        """Start a container of the image that idles in another one's network namespace; its id."""
        ...

    def run_once(self, image: str, script: str) -> str:
        """Run a script by ``sh`` in a container without a network that may change what it has; what it printed."""
        ...

    def remove(self, container: str) -> None:
        """End and remove a container; does nothing when it is gone."""
        ...

    def save_log(self, container: str, since_s: float, destination: Path) -> None:
        """Write what a container has said since then (s since 1970) to a file; raises OSError."""
        ...


class DockerEngine:
    """See ``Engine``; raises ConfigError when docker's library is not installed."""

    def __init__(self) -> None:
        try:
            import docker  # noqa: F401
        except ImportError:
            raise ConfigError(
                f"containers are reached through docker's Python library, which is missing: {HOW_TO_GET}"
            ) from None
        self._client: docker.APIClient | None = None

    @property
    def _api(self) -> Any:
        import docker
        from docker.utils import kwargs_from_env

        if self._client is None:
            try:
                place = kwargs_from_env()
                self._client = docker.APIClient(**place, version="auto", timeout=int(ENGINE_TIMEOUT_S))
            except docker.errors.DockerException as failure:
                raise EngineError(f"no docker engine answers: {failure}; see DOCKER_HOST") from None
        return self._client

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """See ``Engine``."""
        wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
        with _failing("list containers"):
            return [found["Id"] for found in self._api.containers(all=True, filters={"label": wanted})]

    def inspect(self, container: str) -> Container:
        """See ``Engine``."""
        with _failing(f"inspect {_short(container)}"):
            return read_container(self._api.inspect_container(container), host=_host(os.environ.get("DOCKER_HOST")))

    def first_process(self, container: str) -> str:
        """See ``Engine``."""
        with _failing(f"top {_short(container)}"):
            found = self._api.top(container)
        column = next(place for place, title in enumerate(found["Titles"]) if title in ("CMD", "COMMAND"))
        return str(found["Processes"][0][column]) if found["Processes"] else ""

    def kill(self, container: str) -> None:
        """See ``Engine``."""
        with _failing(f"kill {_short(container)}", fine="is not running"):
            self._api.kill(container, signal="SIGKILL")

    def stop(self, container: str) -> None:
        """See ``Engine``."""
        with _failing(f"stop {_short(container)}"):
            self._api.stop(container)

    def start(self, container: str) -> None:
        """See ``Engine``."""
        with _failing(f"start {_short(container)}"):
            self._api.start(container)

    def pause(self, container: str) -> None:
        """See ``Engine``."""
        with _failing(f"pause {_short(container)}", fine="already paused"):
            self._api.pause(container)

    def unpause(self, container: str) -> None:
        """See ``Engine``."""
        with _failing(f"unpause {_short(container)}", fine="is not paused"):
            self._api.unpause(container)

    def join_network(self, container: str, *, image: str, labels: Mapping[str, str]) -> str:
        """See ``Engine``."""
        with _failing(f"start a helper in the network of {_short(container)}"):
            made = self._make(image, ["sleep", "infinity"], network=f"container:{container}", labels=labels)
            try:
                self._api.start(made)
            except BaseException:
                self.remove(made)
                raise
        return made

    def _make(self, image: str, command: Sequence[str], *, network: str, labels: Mapping[str, str]) -> str:
        settings = self._api.create_host_config(network_mode=network, cap_drop=["ALL"], cap_add=["NET_ADMIN"])
        made = self._api.create_container(
            image, list(command), entrypoint=[], labels=dict(labels), host_config=settings, user="0"
        )
        return str(made["Id"])

    def run_once(self, image: str, script: str) -> str:
        """See ``Engine``."""
        with _failing(f"run {image}"):
            made = self._make(image, ["sh", "-c", script], network="none", labels={"splitvote.probe": "1"})
            try:
                self._api.start(made)
                self._api.wait(made, timeout=RUN_TIMEOUT_S)
                return bytes(self._api.logs(made, stdout=True, stderr=False)).decode(errors="replace")
            finally:
                self.remove(made)

    def remove(self, container: str) -> None:
        """See ``Engine``."""
        with contextlib.suppress(NoSuchContainer), _failing(f"remove {_short(container)}", fine="already in progress"):
            self._api.remove_container(container, force=True, v=True)

    def save_log(self, container: str, since_s: float, destination: Path) -> None:
        """See ``Engine``."""
        with _failing(f"read the log of {_short(container)}"), destination.open("wb") as file:
            # Unless it is told not to, the library follows what it streams, for ever.
            for piece in self._api.logs(container, stream=True, follow=False, since=int(since_s)):
                file.write(piece)


@contextlib.contextmanager
def _failing(what: str, *, fine: str | None = None) -> Iterator[None]:
    """Turn the library's errors into ours; one that says ``fine`` is none."""
    import docker
    import requests

    try:
        yield
    except docker.errors.NotFound as failure:
        raise NoSuchContainer(f"docker could not {what}: {failure.explanation}") from None
    except (docker.errors.DockerException, requests.RequestException) as failure:
        said = str(getattr(failure, "explanation", None) or failure)
        if fine is None or fine not in said:
            raise EngineError(f"docker could not {what}: {said}") from None


def _short(container: str) -> str:
    return container[:12]


def _host(engine: str | None) -> str:
    """Where ports are published that are published on every address, or on the engine's own loopback."""
    place = urlsplit(engine or "")
    return (place.hostname or _LOOPBACK) if place.scheme in ("tcp", "http", "https", "ssh") else _LOOPBACK


def read_container(inspected: Mapping[str, Any], *, host: str = _LOOPBACK) -> Container:
    """Understand what the engine says of one container; ``host`` is where its published ports are."""
    state, config, settings = inspected["State"], inspected["Config"], inspected["NetworkSettings"]
    host_config = inspected["HostConfig"]
    mounts = [each["Destination"] for each in inspected.get("Mounts") or () if each["Type"] == "tmpfs"]
    published = {}
    for port, places in (settings.get("Ports") or {}).items():
        number, _, protocol = port.partition("/")
        if places and protocol == "tcp":
            is_here = places[0]["HostIp"] in ("", "0.0.0.0", "::", "::1", _LOOPBACK)
            published[int(number)] = f"{host if is_here else places[0]['HostIp']}:{places[0]['HostPort']}"
    networks = settings.get("Networks") or {}
    return Container(
        id=inspected["Id"],
        name=inspected["Name"].lstrip("/"),
        status=state["Status"],
        incarnation=Incarnation(state["Pid"], state["StartedAt"]),
        labels=dict(config.get("Labels") or {}),
        command=(inspected.get("Path") or "", *(inspected.get("Args") or ())),
        environment=tuple(config.get("Env") or ()),
        addresses={name: each["IPAddress"] for name, each in sorted(networks.items()) if each.get("IPAddress")},
        published=published,
        restart_policy=(host_config.get("RestartPolicy") or {}).get("Name") or "no",
        tmpfs=tuple(dict.fromkeys([*(host_config.get("Tmpfs") or {}), *mounts])),
        auto_remove=bool(host_config.get("AutoRemove")),
    )
