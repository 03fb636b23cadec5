"""What a cluster that is somebody else's says of itself before it is touched, and how one gets in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from splitvote.harness.errors import ConfigError, EnvironmentFailure, TransportError

if TYPE_CHECKING:
    from splitvote.harness.etcd.connection import ConnectionOptions
    from splitvote.harness.etcd.rpc import Rpc

PASSWORD_VARIABLE: Final = "SPLITVOTE_PASSWORD"
SURVEY_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_MS: Final = 1000
"""A member may be far, and TLS takes round trips; our own clusters are next door."""


class Access(msgspec.Struct, frozen=True, omit_defaults=True):
    """PEM files and a user, as the command line names them; the user's password is in SPLITVOTE_PASSWORD."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None

    @property
    def has_tls(self) -> bool:
        """Whether members are spoken to by TLS."""
        return self.ca is not None

    def options(self, host: str | None = None) -> ConnectionOptions:
        """How to connect; ``host`` is whom the member's certificate is of.  Raises ConfigError."""
        from splitvote.harness.etcd.connection import ConnectionOptions, Tls

        if self.ca is None and (self.cert or self.key):
            raise ConfigError("--cert and --key want --ca as well: the authority that signs the members' certificates")
        tls = None
        if self.ca is not None:
            cert, key = (None if path is None else Path(path) for path in (self.cert, self.key))
            tls = Tls(ca=Path(self.ca), cert=cert, key=key, server_name=host)
        password = None if self.user is None else os.environ.get(PASSWORD_VARIABLE)
        if self.user is not None and password is None:
            raise ConfigError(f"--user {self.user}: its password is to be in the environment, as {PASSWORD_VARIABLE}")
        return ConnectionOptions(tls=tls, user=self.user, password=password, connect_timeout_ms=CONNECT_TIMEOUT_MS)


class Found(msgspec.Struct, frozen=True):
    """One member's own words: its id, its version, who leads as it sees it, and its name in the member list."""

    id: int
    version: str
    leader: int
    name: str


class Survey(msgspec.Struct, frozen=True):
    """What every endpoint said, by the name it was asked under; ``others`` are members behind none of them."""

    members: dict[str, Found]
    others: tuple[str, ...] = ()


async def survey(endpoints: Mapping[str, str], access: Access) -> Survey:
    """Ask every endpoint ("host:port", by name); raises EnvironmentFailure for one that does not answer.

    Raises ConfigError where two of them lead to one member.
    """
    from splitvote.harness.etcd.connection import GrpcRpc
    from splitvote.harness.etcd.rpc import ask_all

    rpcs: dict[str, Rpc] = {
        name: GrpcRpc(endpoint, access.options(host_of(endpoint))) for name, endpoint in endpoints.items()
    }
    try:
        answers = await ask_all(rpcs, _ask)
    finally:
        for rpc in rpcs.values():
            await rpc.close()
    found: dict[str, tuple[Found, dict[int, str]]] = {}
    for name, answer in answers.items():
        if isinstance(answer, TransportError):
            where = endpoints[name]
            raise EnvironmentFailure(f"no etcd answers at {where}: {answer}; see --ca and --user where it wants them")
        found[name] = answer
    seen: dict[int, str] = {}
    for name, (member, _) in found.items():
        if (other := seen.setdefault(member.id, name)) != name:
            raise ConfigError(
                f"{endpoints[other]} and {endpoints[name]} lead to one member ({member.name or f'{member.id:x}'}): "
                "give each member's own endpoint once"
            )
    listed = {number: title for _, titles in found.values() for number, title in titles.items()}
    others = tuple(sorted(title or f"{number:x}" for number, title in listed.items() if number not in seen))
    return Survey({name: member for name, (member, _) in found.items()}, others)


async def _ask(name: str, rpc: Rpc) -> tuple[Found, dict[int, str]]:
    """A member's own words, and every member's name by its id."""
    from splitvote.harness.etcd.methods import MEMBER_LIST, STATUS
    from splitvote.harness.etcd.stubs import rpc_pb2 as pb

    status = await rpc.unary(STATUS, pb.StatusRequest(), timeout_s=SURVEY_TIMEOUT_S)
    listed = await rpc.unary(MEMBER_LIST, pb.MemberListRequest(), timeout_s=SURVEY_TIMEOUT_S)
    names = {member.ID: member.name for member in listed.members}
    number = status.header.member_id
    return Found(number, status.version, status.leader, names.get(number, "")), names


def host_of(endpoint: str) -> str:
    """The host of "host:port"."""
    return endpoint.rpartition(":")[0].strip("[]")
