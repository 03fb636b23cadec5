"""TLS, and users with passwords, against real members."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.connection import ConnectionOptions, Connections, Tls
from splitvote.harness.etcd.outcomes import outcome
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from tests.harness.etcd.conftest import PATIENT

pytestmark = pytest.mark.etcd

TIMEOUT_S = 60.0
PASSWORD = "correct horse"
ROOT = replace(PATIENT, user="root", password=PASSWORD)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1 and a client's, made by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH, which makes the certificates for this test")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        openssl(*sign, "-out", f"{name}.pem", "-days", "2", "-extfile", "names")
    return folder


def test_tls_with_client_certificates(
    run_etcd: Callable[..., Any], connected: Callable[..., Any], certificates: Path
) -> None:
    tls = Tls(ca=certificates / "ca.pem", cert=certificates / "client.pem", key=certificates / "client.key")
    options = replace(PATIENT, tls=tls)
    flags = [
        f"--cert-file={certificates / 'server.pem'}",
        f"--key-file={certificates / 'server.key'}",
        "--client-cert-auth",
        f"--trusted-ca-file={certificates / 'ca.pem'}",
    ]

    async def put(connections: Connections) -> int:
        request = pb.PutRequest(key=b"tls", value=b"1")
        answer = await connections["n1"].unary(m.PUT, request, timeout_s=TIMEOUT_S)
        return answer.header.revision

    with run_etcd(1, flags=flags, options=options) as members:
        assert connected(members, put, options=options) > 1
        without_certificate = replace(PATIENT, tls=Tls(ca=certificates / "ca.pem"))
        for refused in (without_certificate, PATIENT):
            with pytest.raises(TransportError) as caught:
                connected(members, put, options=refused)
            assert caught.value.code == "UNAVAILABLE"


@pytest.fixture(scope="module")
def guarded(run_etcd: Callable[..., Any]) -> Iterator[Any]:
    """A member with auth enabled, a root, and a user who may only read below public/."""

    async def enable(members: Any) -> None:
        connections = Connections(members.endpoints, PATIENT)
        rpc = connections["n1"]

        async def do(method: Any, request: Any) -> None:
            await rpc.unary(method, request, timeout_s=TIMEOUT_S)

        await do(m.USER_ADD, pb.AuthUserAddRequest(name="root", password=PASSWORD))
        await do(m.ROLE_ADD, pb.AuthRoleAddRequest(name="root"))
        await do(m.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user="root", role="root"))
        await do(m.ROLE_ADD, pb.AuthRoleAddRequest(name="reader"))
        permission = pb.Permission(permType=pb.Permission.READ, key=b"public/", range_end=b"public0")
        grant = pb.AuthRoleGrantPermissionRequest(name="reader", perm=permission)
        await do(m.ROLE_GRANT_PERMISSION, grant)
        await do(m.USER_ADD, pb.AuthUserAddRequest(name="guest", password=PASSWORD))
        await do(m.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user="guest", role="reader"))
        await do(m.AUTH_ENABLE, pb.AuthEnableRequest())
        await connections.close()

    with run_etcd(1) as members:
        asyncio.run(enable(members))
        members.options = ROOT
        yield members


def test_users_and_roles_can_be_managed(guarded: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]

        async def do(method: Any, request: Any) -> Any:
            return await rpc.unary(method, request, timeout_s=TIMEOUT_S)

        status = await do(m.AUTH_STATUS, pb.AuthStatusRequest())
        assert status.enabled
        assert status.authRevision > 1
        await do(m.ROLE_ADD, pb.AuthRoleAddRequest(name="short-lived"))
        permission = pb.Permission(permType=pb.Permission.WRITE, key=b"k")
        await do(m.ROLE_GRANT_PERMISSION, pb.AuthRoleGrantPermissionRequest(name="short-lived", perm=permission))
        shown = await do(m.ROLE_GET, pb.AuthRoleGetRequest(role="short-lived"))
        assert [(perm.permType, perm.key) for perm in shown.perm] == [(pb.Permission.WRITE, b"k")]
        await do(m.ROLE_REVOKE_PERMISSION, pb.AuthRoleRevokePermissionRequest(role="short-lived", key=b"k"))
        assert not (await do(m.ROLE_GET, pb.AuthRoleGetRequest(role="short-lived"))).perm
        await do(m.USER_ADD, pb.AuthUserAddRequest(name="extra", password="one"))
        await do(m.USER_CHANGE_PASSWORD, pb.AuthUserChangePasswordRequest(name="extra", password="two"))
        authenticated = await do(m.AUTHENTICATE, pb.AuthenticateRequest(name="extra", password="two"))
        assert authenticated.token
        await do(m.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user="extra", role="short-lived"))
        assert list((await do(m.USER_GET, pb.AuthUserGetRequest(name="extra"))).roles) == ["short-lived"]
        await do(m.USER_REVOKE_ROLE, pb.AuthUserRevokeRoleRequest(name="extra", role="short-lived"))
        await do(m.ROLE_DELETE, pb.AuthRoleDeleteRequest(role="short-lived"))
        await do(m.USER_DELETE, pb.AuthUserDeleteRequest(name="extra"))
        assert sorted((await do(m.USER_LIST, pb.AuthUserListRequest())).users) == ["guest", "root"]
        assert sorted((await do(m.ROLE_LIST, pb.AuthRoleListRequest())).roles) == ["reader", "root"]

    connected(guarded, body, options=ROOT)


def test_a_user_may_do_what_the_role_allows_and_no_more(guarded: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> TransportError:
        rpc = connections["n1"]
        await rpc.unary(m.RANGE, pb.RangeRequest(key=b"public/a"), timeout_s=TIMEOUT_S)
        with pytest.raises(TransportError) as caught:
            await rpc.unary(m.PUT, pb.PutRequest(key=b"public/a"), timeout_s=TIMEOUT_S)
        return caught.value

    error = connected(guarded, body, options=replace(PATIENT, user="guest", password=PASSWORD))
    judged = outcome(error, is_read=False)
    assert (judged.name, judged.type) == ("permission-denied", "fail")


@pytest.mark.parametrize(
    ("options", "name"),
    [(PATIENT, "user-empty"), (replace(PATIENT, user="root", password="wrong"), "invalid-argument")],
)
def test_nobody_and_a_wrong_password_are_refused(
    guarded: Any, connected: Callable[..., Any], options: ConnectionOptions, name: str
) -> None:
    async def body(connections: Connections) -> TransportError:
        with pytest.raises(TransportError) as caught:
            await connections["n1"].unary(m.PUT, pb.PutRequest(key=b"k"), timeout_s=TIMEOUT_S)
        return caught.value

    judged = outcome(connected(guarded, body, options=options), is_read=False)
    assert (judged.name, judged.type) == (name, "fail")


async def make_tokens_stale(rpc: Any) -> None:
    """Setting a user's password, even to what it is, makes etcd forget the tokens of that user."""
    same = pb.AuthUserChangePasswordRequest(name="root", password=PASSWORD)
    await rpc.unary(m.USER_CHANGE_PASSWORD, same, timeout_s=TIMEOUT_S)


def test_stale_tokens_are_replaced_under_the_calls(guarded: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        await make_tokens_stale(rpc)
        puts = [rpc.unary(m.PUT, pb.PutRequest(key=b"k%d" % number), timeout_s=TIMEOUT_S) for number in range(20)]
        assert all(answer.header.revision > 1 for answer in await asyncio.gather(*puts))

    connected(guarded, body, options=ROOT)


def test_a_stream_fails_by_a_stale_token_and_the_next_has_a_new_one(
    guarded: Any, connected: Callable[..., Any]
) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        await make_tokens_stale(rpc)
        stream = await rpc.stream(m.SNAPSHOT, pb.SnapshotRequest())
        with pytest.raises(TransportError) as caught:
            await stream.receive()
        assert outcome(caught.value, is_read=True).name == "invalid-auth-token"
        stream = await rpc.stream(m.SNAPSHOT, pb.SnapshotRequest())
        assert (await stream.receive()) is not None

    connected(guarded, body, options=ROOT)
