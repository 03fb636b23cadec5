"""What a simulated etcd is started with: the flags of etcd that it obeys, with etcd's defaults but for two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from splitvote.harness.errors import ConfigError, unknown
from splitvote.harness.simulation.mvcc import MachineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Times in seconds.

    ``snapshot_count`` and ``catch_up_entries`` are far below etcd's 100,000 and
    5,000, so that a follower that was away for some seconds gets a snapshot.
    ``watch_progress_s`` is far below its ten minutes, which would be the end of
    nearly every run before a watcher that asked for reports had one.
    """

    heartbeat_s: float = 0.1
    election_timeout_s: float = 1.0
    snapshot_count: int = 1_000
    catch_up_entries: int = 500
    watch_progress_s: float = 1.0
    compaction_mode: Literal["revision"] = "revision"
    keep_revisions: int | None = None

    @property
    def election_ticks(self) -> int:
        """The election timeout in heartbeats."""
        return max(2, round(self.election_timeout_s / self.heartbeat_s))

    @property
    def machine(self) -> MachineOptions:
        """What of it the machine obeys; no lease is shorter than one and a half election timeouts."""
        return MachineOptions(
            min_ttl_s=math.ceil(1.5 * self.election_timeout_s),
            keep_revisions=self.keep_revisions,
            watch_progress_s=self.watch_progress_s,
        )

    @property
    def request_timeout_s(self) -> float:
        """How long a proposal is waited for: 5 s for queues and disks, and two elections."""
        return 5.0 + 2 * self.election_timeout_s


def _revision_mode(text: str) -> str:
    """The one mode of automatic compaction that is simulated."""
    if text != "revision":
        raise ConfigError(f"--auto-compaction-mode={text} is not simulated, only revision is")
    return text


def _seconds(text: str) -> float:
    """A duration in whole milliseconds, as the harness writes them ("1500ms")."""
    return int(text.removesuffix("ms")) / 1e3


_FLAGS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "heartbeat-interval": ("heartbeat_s", lambda text: int(text) / 1e3),
    "election-timeout": ("election_timeout_s", lambda text: int(text) / 1e3),
    "snapshot-count": ("snapshot_count", int),
    "experimental-watch-progress-notify-interval": ("watch_progress_s", _seconds),
    "watch-progress-notify-interval": ("watch_progress_s", _seconds),
    "auto-compaction-mode": ("compaction_mode", _revision_mode),
    "auto-compaction-retention": ("keep_revisions", int),
    "experimental-snapshot-catchup-entries": ("catch_up_entries", int),
    "snapshot-catchup-entries": ("catch_up_entries", int),
}


def options_of(flags: Sequence[str]) -> ServerOptions:
    """Read etcd's own flags (``--snapshot-count=100``); raises ConfigError for those that are not simulated."""
    options = ServerOptions()
    for flag in flags:
        name, sign, text = flag.removeprefix("--").partition("=")
        if name not in _FLAGS or not sign:
            raise ConfigError(f"--etcd-arg {flag}: {unknown('simulated flag', name, sorted(_FLAGS))}")
        field, read = _FLAGS[name]
        try:
            options = replace(options, **{field: read(text)})
        except ValueError:
            raise ConfigError(f"--etcd-arg {flag}: {text!r} is not a whole number") from None
    return options
