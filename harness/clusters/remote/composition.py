"""Our docker-compose project: its files, and the command lines of docker and Compose (1.29's or v2's) on it.

Containers are found by the labels that both put on them.  Everything blocks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitvote.harness.clusters.processes import CAN_TETHER, tether_script
from splitvote.harness.clusters.remote.node_facts import SCRIPT, NodeFacts, read_facts
from splitvote.harness.errors import ConfigError, EnvironmentFailure

FILE: Final = "docker-compose.yml"
EXTRAS: Final = ("clock", "disk")
"""What ``docker-compose.<extra>.yml`` there are beside it."""

SERVICES: Final = ("n1", "n2", "n3", "n4", "n5")
SSH_PORT: Final = 22
CLIENT_PORT: Final = 2379
IMAGE: Final = "splitvote-node"
QUICK_TIMEOUT_S: Final = 30.0
UP_TIMEOUT_S: Final = 120.0
DOWN_ATTEMPTS: Final = 10
BUILD_TIMEOUT_S: Final = 1800.0
_LABEL: Final = "com.docker.compose"
_WORDS: Final = 400
_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A node's container: whether it runs, its address among the nodes, and its ports as they are published."""

    id: str
    state: str
    address: str
    published: Mapping[int, str]

    @property
    def is_running(self) -> bool:
        """Whether commands can be run in it."""
        return self.state == "running"


def default_directory() -> Path:
    """Where our compose file is: the checkout that this package is of, else the working directory.

    Raises ConfigError where there is none.
    """
    for folder in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (folder / FILE).is_file() and (folder / "docker" / "Dockerfile").is_file():
            return folder
    raise ConfigError(f"no {FILE} with a docker/Dockerfile beside it: run splitvote in a checkout of its repository")


class Composition:
    """The project in ``directory`` with some ``extras``; raises EnvironmentFailure where there is no docker."""

    def __init__(self, directory: Path, extras: Sequence[str] = ()) -> None:
        self.directory = directory
        self.extras = tuple(extras)
        names = [FILE, *(f"docker-compose.{extra}.yml" for extra in self.extras)]
        self._files = [str(directory / name) for name in names]
        self._command: list[str] | None = None

    @property
    def image(self) -> str:
        """The image's name, as the compose file has it."""
        return os.environ.get("SPLITVOTE_IMAGE") or IMAGE

    @property
    def project(self) -> str:
        """The project's name, as Compose has it."""
        given = os.environ.get("COMPOSE_PROJECT_NAME")
        return given or re.sub(r"[^-_a-z0-9]", "", self.directory.name.lower()).lstrip("-_") or "default"

    def _compose(self, *arguments: str, timeout_s: float) -> str:
        if self._command is None:
            self._command = _find_compose()
        files = [word for file in self._files for word in ("-f", file)]
        command = [*self._command, *files, "-p", self.project, *arguments]
        return _said(command, timeout_s, directory=self.directory, is_tethered=True)

    def containers(self) -> dict[str, Container]:
        """The nodes' containers by service, those that do not run as well.

        Raises ConfigError when another directory's project has our name.
        """
        chosen = f"label={_LABEL}.project={self.project}"
        ids = _said(["docker", "ps", "-aq", "--no-trunc", "--filter", chosen], QUICK_TIMEOUT_S).split()
        found = json.loads(_said(["docker", "inspect", *ids], QUICK_TIMEOUT_S)) if ids else []
        containers = {}
        for each in found:
            labels = each["Config"]["Labels"]
            home = labels.get(f"{_LABEL}.project.working_dir", str(self.directory))
            if Path(home).resolve() != self.directory.resolve():
                raise ConfigError(
                    f"the compose project {self.project!r} is another directory's, {home}: set COMPOSE_PROJECT_NAME"
                )
            service = labels[f"{_LABEL}.service"]
            if service in SERVICES:
                containers[service] = read_container(each)
        return {service: containers[service] for service in SERVICES if service in containers}

    def has_image(self) -> bool:
        """Whether the image was built."""
        return bool(_said(["docker", "images", "-q", self.image], QUICK_TIMEOUT_S).strip())

    def build(self) -> None:
        """Build the image; what was built before is used again."""
        self._compose("build", SERVICES[0], timeout_s=BUILD_TIMEOUT_S)

    def up(self, services: Collection[str]) -> None:
        """Create what is not there, and start what does not run."""
        self._compose("up", "-d", "--no-build", *services, timeout_s=UP_TIMEOUT_S)

    def stop(self, services: Collection[str]) -> None:
        """Stop these, and keep them."""
        self._compose("stop", "-t", "1", *services, timeout_s=UP_TIMEOUT_S)

    def down(self) -> None:
        """Remove the containers, their volumes and their network; the image stays.

        Raises EnvironmentFailure when some are still there in the end.
        """
        for _ in range(DOWN_ATTEMPTS):
            self._compose("down", "-v", "-t", "1", timeout_s=UP_TIMEOUT_S)
            if not self.containers():
                return
            time.sleep(_PAUSE_S)  # the engine still makes what a Compose that was killed had asked it for
        raise EnvironmentFailure(
            f"{', '.join(self.containers())} cannot be removed: `docker ps -a` tells what they are"
        )

    def settings(self, container: str) -> dict[str, Any]:
        """What docker was told of a container's resources (its HostConfig)."""
        found = _said(["docker", "inspect", "-f", "{{json .HostConfig}}", container], QUICK_TIMEOUT_S)
        settings: dict[str, Any] = json.loads(found)
        return settings

    def update(self, container: str, options: Sequence[str]) -> None:
        """Change what a container may use, while it runs."""
        _said(["docker", "update", *options, container], QUICK_TIMEOUT_S)

    def logs(self, service: str) -> str:
        """What the container itself has said."""
        return self._compose("logs", "--no-color", service, timeout_s=QUICK_TIMEOUT_S)

    def facts(self) -> NodeFacts:
        """What the nodes have: asked of one that runs, else of a container that is gone when this returns."""
        running = [each for each in self.containers().values() if each.is_running]
        if running:
            command = ["docker", "exec", "-i", running[0].id, "sh", "-s"]
        else:
            binaries = os.environ.get("SPLITVOTE_ETCD_DIR") or str(self.directory / "docker" / "etcd")
            mount = ["-v", f"{Path(binaries).absolute()}:/opt/etcd:ro"]
            allowed = ["--rm", "-i", "--network", "none", "--cap-add", "NET_ADMIN"]
            command = ["docker", "run", *allowed, *mount, self.image, "sh", "-s"]
        return read_facts(_said(command, QUICK_TIMEOUT_S, text=SCRIPT))


def read_container(inspected: Mapping[str, Any]) -> Container:
    """Understand what ``docker inspect`` says of one container."""
    settings = inspected["NetworkSettings"]
    networks = list(settings["Networks"].values())
    return Container(
        id=inspected["Id"],
        state=inspected["State"]["Status"],
        address=networks[0]["IPAddress"] if networks else "",
        published={
            int(port.partition("/")[0]): f"{places[0]['HostIp']}:{places[0]['HostPort']}"
            for port, places in (settings["Ports"] or {}).items()
            if places
        },
    )


def _find_compose() -> list[str]:
    if shutil.which("docker") is None:
        raise EnvironmentFailure("no docker on PATH: --cluster compose needs docker and docker-compose")
    if _done(["docker", "compose", "version"], QUICK_TIMEOUT_S).returncode == 0:
        return ["docker", "compose"]
    if (found := shutil.which("docker-compose")) is not None:
        return [found]
    raise EnvironmentFailure("neither `docker compose` nor docker-compose is there: install Compose v2, or 1.29")


def _said(
    command: Sequence[str],
    timeout_s: float,
    *,
    text: str = "",
    directory: Path | None = None,
    is_tethered: bool = False,
) -> str:
    """What a command printed; raises EnvironmentFailure, with its last words, when it failed."""
    done = _done(command, timeout_s, text=text, directory=directory, is_tethered=is_tethered)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-_WORDS:]
        raise EnvironmentFailure(f"`{' '.join(command[:2])}` failed: {said or f'exit status {done.returncode}'}")
    return done.stdout


def _done(
    command: Sequence[str],
    timeout_s: float,
    *,
    text: str = "",
    directory: Path | None = None,
    is_tethered: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that ``is_tethered`` does not outlive this process, whatever ends that."""
    if (program := shutil.which(command[0])) is None:
        raise EnvironmentFailure(f"no {command[0]} on PATH: --cluster compose needs docker and docker-compose")
    ends = os.pipe() if is_tethered and CAN_TETHER else ()
    tether = [] if not ends else [*tether_script(), str(os.getpid()), str(ends[1]), ""]
    try:
        return subprocess.run(
            [*tether, program, *command[1:]],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=directory,
            pass_fds=ends[1:],
            start_new_session=True,  # Ctrl-C is for us: we heal first
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(f"`{' '.join(command[:4])} ...` was not done within {timeout_s:g} s") from None
    finally:
        for end in ends:
            os.close(end)
