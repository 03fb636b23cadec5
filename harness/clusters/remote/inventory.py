"""The inventory of ``--cluster ssh``: a TOML file that tells which hosts there are, and how each is reached.

::

    verify_host_keys = true            # the default
    [defaults]                         # what all nodes have in common
    user = "root"
    key = "id_ed25519"                 # paths are relative to the file
    known_hosts = "known_hosts"
    [nodes.n1]
    host = "192.0.2.11"

A node whose etcd is an existing service has ``unit``, or the commands ``start``,
``stop`` and ``kill`` and a ``pidfile``.  Everything here is pure but for reading
the file: who talks to the hosts is ``ssh_hosts``.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from splitvote.harness.cluster import CLIENT
from splitvote.harness.control.ssh import SshAddress
from splitvote.harness.errors import ConfigError, unknown

MOST_NODES: Final = 9
CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,30}")
_HEADER: Final = re.compile(r"^\s*\[([^\]]+)\]")
_PATHS: Final = ("key", "known_hosts")
_COMMANDS: Final = ("start", "stop", "kill", "pidfile")
_SERVICE: Final = ("unit", *_COMMANDS, "log")
_TOP: Final[Mapping[str, type]] = {
    "verify_host_keys": bool,
    "keep_binaries": bool,
    "defaults": dict,
    "nodes": dict,
    "access": dict,
}
_NODE: Final[Mapping[str, type]] = {
    "host": str,
    "port": int,
    "user": str,
    "key": str,
    "host_key": str,
    "known_hosts": str,
    "peer": str,
    "client": str,
    "interface": str,
    "etcd": str,
} | dict.fromkeys(_SERVICE, str)
_NOT_SHARED: Final = ("host", "host_key", "peer", "client")
"""What no two nodes can have in common."""

_ACCESS: Final[Mapping[str, type]] = dict.fromkeys(("ca", "cert", "key", "user"), str)
_TYPE_NAMES: Final = {str: "a text", int: "a whole number", bool: "true or false", dict: "a table"}


class Service(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a service that is there already is handled: lines for the node's shell; ``pid`` prints its main process's.

    ``log`` prints what the service has said since ``log_mark`` printed $1.
    """

    start: str
    stop: str
    kill: str
    pid: str
    log: str | None = None
    log_mark: str | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node; ``peer`` and ``client`` are "address:port"."""

    host: str
    peer: str
    client: str
    port: int = 22
    user: str = "root"
    key: str | None = None
    host_key: str | None = None
    known_hosts: str | None = None
    interface: str | None = None
    etcd: str | None = None
    service: Service | None = None

    @property
    def address(self) -> str:
        """Its address among its peers."""
        return self.peer.rpartition(":")[0]

    @property
    def where(self) -> str:
        """Where its sshd is, for people."""
        return f"{self.host} port {self.port}"

    def ssh(self, strangers: Literal["refuse", "accept"]) -> SshAddress:
        """How to log in."""
        return SshAddress(
            host=self.host,
            port=self.port,
            user=self.user,
            key=None if self.key is None else Path(self.key),
            host_key=self.host_key,
            known_hosts=None if self.known_hosts is None else Path(self.known_hosts),
            strangers=strangers,
        )


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes by name, whether their hosts' keys are verified, and how clients get in (``Access``) to services.

    With ``keep_binaries`` what was brought to them stays there for the next run.
    """

    file: str
    nodes: dict[str, Host]
    verify_host_keys: bool = True
    keep_binaries: bool = False
    access: dict[str, str] = {}

    @property
    def are_services(self) -> bool:
        """Whether the members are services that are there already; all are, or none."""
        return any(host.service is not None for host in self.nodes.values())


def read_inventory(file: Path) -> Inventory:
    """Read and check a file; raises ConfigError, naming the place and what is known there."""
    try:
        text = file.read_text()
        return _Reader(file, text).inventory(tomllib.loads(text))
    except OSError as failure:
        raise ConfigError(f"--nodes-file {file}: {failure.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"--nodes-file {file}: {problem}") from None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Understands one file; ``text`` is for telling lines."""

    file: Path
    text: str

    def inventory(self, content: Mapping[str, Any]) -> Inventory:
        self._check(content, _TOP, "")
        defaults, tables, access = (content.get(name, {}) for name in ("defaults", "nodes", "access"))
        self._check(defaults, {name: kind for name, kind in _NODE.items() if name not in _NOT_SHARED}, "defaults")
        self._check(access, _ACCESS, "access")
        if not 1 <= len(tables) <= MOST_NODES:
            raise self._error(f"it has {len(tables)} nodes where 1 to {MOST_NODES} can be ([nodes.n1] ...)", "nodes")
        nodes = {name: self._host(name, table, defaults) for name, table in tables.items()}
        self._check_distinct(nodes)
        if access and not any(host.service is not None for host in nodes.values()):
            raise self._error("[access] is for services: members that the harness starts let everybody in", "access")
        return Inventory(
            file=str(self.file.absolute()),
            nodes=nodes,
            verify_host_keys=content.get("verify_host_keys", True),
            keep_binaries=content.get("keep_binaries", False),
            access={name: value if name == "user" else self._path(value) for name, value in access.items()},
        )

    def _host(self, name: str, table: Any, defaults: Mapping[str, Any]) -> Host:
        place = f"nodes.{name}"
        if not _NAME.fullmatch(name) or name == CLIENT:
            raise self._error(f"{name!r} is no name for a node: letters, digits, - _ and . are, such as n1", place)
        if not isinstance(table, dict):
            raise self._error(f"{place} is to be a table: [{place}]", place)
        self._check(table, _NODE, place)
        if "host" not in table:
            raise self._error(f"{place} has no host", place)
        given = {**defaults, **table}
        for path in _PATHS:
            if path in given:
                given[path] = self._path(given[path])
                if not Path(given[path]).is_file():
                    raise self._error(f"{place}: there is no file {given[path]}", place, path)
        given["peer"] = self._peer(place, given)
        given["client"] = self._with_port(place, "client", given.get("client", given["peer"].rpartition(":")[0]))
        service = self._service(place, given)
        plain = {key: value for key, value in given.items() if key not in _SERVICE}
        return msgspec.convert(plain | {"service": service}, Host)

    def _peer(self, place: str, given: Mapping[str, Any]) -> str:
        """Where its peers find it; packet filters take addresses only."""
        peer = self._with_port(place, "peer", given.get("peer", given["host"]))
        try:
            ipaddress.IPv4Address(peer.rpartition(":")[0])
        except ValueError:
            said = f"peer = {given['peer']!r}" if "peer" in given else f"host = {given['host']!r} alone"
            raise self._error(
                f"{place}: {said} does not tell how its peers reach it: give its IPv4 address as peer (IPv6 is not "
                "supported)",
                place,
                "peer" if "peer" in given else "host",
            ) from None
        return peer

    def _with_port(self, place: str, name: str, value: str) -> str:
        host, has_port, port = value.rpartition(":")
        if not has_port:
            return f"{value}:{PEER_PORT if name == 'peer' else CLIENT_PORT}"
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise self._error(f'{place}: {name} = {value!r} is to be as "192.0.2.11" or "192.0.2.11:2379"', place, name)
        return value

    def _service(self, place: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its commands, where it is a service."""
        mine = {name: given[name] for name in _SERVICE if name in given}
        if not mine:
            return None
        if "unit" in mine:
            unit = shlex.quote(mine["unit"])
            mine = _of_systemd(unit) | mine
        if missing := [name for name in _COMMANDS if name not in mine and not (name == "pidfile" and "unit" in mine)]:
            raise self._error(f"{place} has {next(iter(mine))} but no {' and no '.join(missing)} (or a unit)", place)
        if "etcd" in given:
            raise self._error(f"{place}: etcd = ... is for nodes where the harness starts it", place, "etcd")
        if "pidfile" in mine:
            mine["pid"] = f"cat {shlex.quote(mine['pidfile'])}"
        if "log" in given:
            path = shlex.quote(given["log"])
            mine |= {"log": f'tail -c "+$(($1 + 1))" {path}', "log_mark": f"wc -c <{path}"}
        return {name: mine[name] for name in Service.__struct_fields__ if name in mine}

    def _check(self, table: Mapping[str, Any], known: Mapping[str, type], place: str) -> None:
        """Refuse names that are not known, and values of another type."""
        inside = f" in [{place}]" if place else ""
        for name, value in table.items():
            if name not in known:
                raise self._error(
                    f"{unknown('entry', name, sorted(known))}{inside}; known: {', '.join(known)}", place, name
                )
            wanted = known[name]
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise self._error(f"{name} = {value!r}{inside} is to be {_TYPE_NAMES[wanted]}", place, name)

    def _check_distinct(self, nodes: Mapping[str, Host]) -> None:
        """Two nodes on one host would share what is done to its packets."""
        if (some := {host.service is None for host in nodes.values()}) == {True, False}:
            raise self._error("some nodes are services and others are not: all are to be, or none", "nodes")
        assert len(some) == 1
        first: dict[tuple[str, str], str] = {}
        for name, host in nodes.items():
            for what, place in (("host and port", host.where), ("peer address", host.address)):
                other = first.setdefault((what, place), name)
                if other != name:
                    raise self._error(f"{other} and {name} have the same {what}: {place}", f"nodes.{name}")

    def _path(self, given: str) -> str:
        return str((self.file.absolute().parent / Path(given).expanduser()).resolve())

    def _error(self, what: str, table: str, name: str | None = None) -> ConfigError:
        line = _line_of(self.text, table, name)
        return ConfigError(f"--nodes-file {self.file}{'' if line is None else f', line {line}'}: {what}")


def _of_systemd(unit: str) -> dict[str, str]:
    """The commands for a unit of systemd's, which must not start it again by itself once it was killed."""
    return {
        "start": f"systemctl reset-failed {unit} 2>/dev/null; systemctl start {unit}",
        "stop": f"systemctl stop {unit}",
        "kill": f"systemctl kill -s KILL {unit}; systemctl stop {unit}",
        "pid": f"systemctl show -p MainPID --value {unit}",
        "log": f'journalctl --no-pager -o cat -u {unit} --since "@$1"',
        "log_mark": "date +%s",
    }


def _line_of(text: str, table: str, name: str | None) -> int | None:
    """The line of an entry of a table, or of the table itself; None where it is written in some other way."""
    current, header = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if (match := _HEADER.match(line)) is not None:
            current = match[1].replace('"', "").replace(" ", "")
            if current == table:
                header = number
        elif current == table and name is not None and re.match(rf'\s*"?{re.escape(name)}"?\s*[=.]', line):
            return number
        if name is not None and current == (f"{table}.{name}" if table else name) and match is not None:
            return number
    return header
