"""Snapshots checked as they come, alarms, and auth that the harness's own connections survive."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.upkeep import ROOT, ROOT_PASSWORD, EtcdAuth, EtcdUpkeep
from tests.harness.etcd.conftest import PATIENT

DATABASE = bytes(range(256)) * 40


class Parts:
    """A snapshot's stream that was written down."""

    def __init__(self, parts: Sequence[bytes], announced: int, *, breaks: bool) -> None:
        self._parts = list(parts)
        self._announced = announced
        self._breaks = breaks

    async def stream(self, method: Any, request: Any, *, timeout_s: float) -> Parts:
        return self

    async def receive(self) -> pb.SnapshotResponse | None:
        if not self._parts:
            if self._breaks:
                raise TransportError("UNAVAILABLE", "Connection reset by peer")
            return None
        part = self._parts.pop(0)
        self._announced = max(0, self._announced - len(part))
        return pb.SnapshotResponse(blob=part, remaining_bytes=self._announced)


def saved(data: bytes, *, size: int = 1000, announced: int = len(DATABASE), breaks: bool = False) -> Any:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    rpcs: Any = {"n1": Parts(parts, announced, breaks=breaks)}
    return asyncio.run(EtcdUpkeep(rpcs).save_snapshot("n1"))


WHOLE = DATABASE + hashlib.sha256(DATABASE).digest()


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1000, 1 << 20])
def test_a_snapshot_is_intact_however_it_is_cut(size: int) -> None:
    announced = len(DATABASE) if size < 1 << 20 else len(WHOLE)
    reading = saved(WHOLE, size=size, announced=announced)
    assert reading.is_intact
    assert reading.size_bytes == len(DATABASE)


@pytest.mark.parametrize("at", [0, 5000, len(WHOLE) - 1])
def test_a_flipped_bit_anywhere_is_seen(at: int) -> None:
    assert not saved(WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :]).is_intact


def test_a_snapshot_that_ends_early_is_no_whole_one() -> None:
    reading = saved(WHOLE[:5000])
    assert not reading.is_intact
    assert reading.size_bytes < reading.announced_bytes == len(DATABASE)


def test_a_stream_that_breaks_is_the_members_affair() -> None:
    with pytest.raises(NemesisError, match="n1 sent no snapshot"):
        saved(WHOLE[:5000], breaks=True)


@pytest.mark.etcd
def test_auth_comes_and_goes_under_the_harness_own_connections(
    run_etcd: Callable[..., Any], connected: Callable[..., Any]
) -> None:
    """Calls and streams go on, before, during and after, with no token fetched before one is asked for."""
    options = replace(PATIENT, user=ROOT, password=ROOT_PASSWORD, authenticate="when_asked")

    async def body(connections: Connections) -> None:
        strangers = Connections({"n1": connections["n1"]._target}, PATIENT)
        auth = EtcdAuth(connections, strangers)
        try:
            for number in range(2):  # the user is there the second time
                await auth.enable()
                await auth.enable()
                refusal = (await auth.refusals(timeout_s=30.0))["n1"]
                assert refusal is not None
                assert refusal.startswith("user-empty")
                put = pb.PutRequest(key=b"k", value=b"%d" % number)
                await connections["n1"].unary(m.PUT, put, timeout_s=30.0)
                await auth.disable()
                assert (await auth.refusals(timeout_s=30.0))["n1"] is None
                await connections["n1"].unary(m.PUT, put, timeout_s=30.0)
                connections["n1"]._token._metadata = None  # type: ignore[union-attr]  # as when it was refused at the end
                await connections["n1"].unary(m.PUT, put, timeout_s=30.0)
        finally:
            await strangers.close()

    with run_etcd() as member:
        connected(member, body, options=options)


@pytest.mark.etcd
def test_an_alarm_is_known_to_the_member_until_it_is_called_off(
    run_etcd: Callable[..., Any], connected: Callable[..., Any]
) -> None:
    async def body(connections: Connections) -> None:
        upkeep = EtcdUpkeep(connections)
        assert (await upkeep.alarms(timeout_s=30.0))["n1"] == ()
        await upkeep.raise_no_space("n1")
        assert "NOSPACE" in (await upkeep.alarms(timeout_s=30.0))["n1"][0]
        await upkeep.disarm()
        assert (await upkeep.alarms(timeout_s=30.0))["n1"] == ()
        reading = await upkeep.save_snapshot("n1")
        assert reading.is_intact
        assert reading.size_bytes == reading.announced_bytes > 0

    with run_etcd() as member:
        connected(member, body)
