"""A cluster that runs already and of which there are endpoints alone, such as a managed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from splitvote.harness.clusters.attached.ground import Moved
from splitvote.harness.errors import ConfigError

_REACH: Final = "--cluster compose --project has it for containers, --cluster ssh for hosts"
_PROCESSES: Final = f"the processes of an attached cluster are not ours to end (Process); {_REACH}"
_LINKS: Final = f"the links between its nodes are out of reach (Links); {_REACH}"
_CLIENT_PORT: Final = 2379


class Endpoints:
    """See ``Ground``: members at fixed places, of which clients can be cut off, and no more."""

    name: Final = "attach"

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    @property
    def words(self) -> str:
        """See ``Ground``."""
        return f"endpoints {', '.join(self._places.values())}"

    @property
    def forbidden(self) -> Mapping[str, str]:
        """See ``Ground``."""
        from splitvote.nemesis.partitions import KINDS

        partitions = {f"partition:{kind}": _LINKS for kind in KINDS if kind != "client"}
        processes = dict.fromkeys(("kill", "stop", "pause", "restart", "admin:crash_during_defragment"), _PROCESSES)
        return {**processes, **partitions, "admin:crash_during_compaction": _PROCESSES, "packet": _LINKS}

    def endpoints(self) -> Mapping[str, str]:
        """See ``Ground``."""
        return self._places

    def described(self) -> dict[str, Any]:
        """See ``Ground``."""
        return {"kind": self.name, "places": self._places}

    async def open(self, moved: Moved) -> None:
        """See ``Ground``: there is nothing to prepare."""

    def capabilities(self) -> Mapping[type[Any], object]:
        """See ``Ground``."""
        return {}

    links: Final = None

    async def restore(self) -> list[str]:
        """See ``Ground``: nothing of ours is there but keys."""
        return []

    async def close(self) -> None:
        """See ``Ground``."""

    async def save_logs(self, folder: Path, since_s: float) -> None:
        """See ``Ground``: there are none to be had."""


def parse_endpoints(given: str) -> tuple[list[str], bool]:
    """Read "HOST:PORT,..." or client URLs; the places as "host:port", and whether they use TLS.  Raises ConfigError."""
    places: list[str] = []
    schemes: set[str] = set()
    for each in filter(None, (part.strip() for part in given.split(","))):
        scheme, has_scheme, rest = each.rpartition("://")
        try:
            parts = urlsplit(f"//{rest}")
            host, port = parts.hostname, parts.port or _CLIENT_PORT
        except ValueError as problem:
            raise ConfigError(f"--endpoints {each}: {problem}; write HOST:PORT, or [ADDRESS]:PORT for IPv6") from None
        if not host or parts.path.strip("/") or (has_scheme and scheme not in ("http", "https")):
            raise ConfigError(f"--endpoints {each}: write HOST:PORT, or a client URL (http:// or https://)")
        schemes |= {scheme} if has_scheme else set()
        places.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if not places:
        raise ConfigError("--cluster attach wants --endpoints HOST:PORT,... of the members, one of each")
    if len(schemes) > 1:
        raise ConfigError(f"--endpoints {given}: some are http and some https; all members are spoken to alike")
    return places, schemes == {"https"}


def named(places: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Places by the members' names, where those are all there and differ; else n1, n2 ..."""
    is_usable = all(names) and len(set(names)) == len(names) and "client" not in names
    usable = is_usable and all(name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names)
    chosen = list(names) if usable else [f"n{number}" for number in range(1, len(places) + 1)]
    return dict(sorted(zip(chosen, places, strict=True)) if usable else zip(chosen, places, strict=True))
