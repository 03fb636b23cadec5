"""Every member's own view of the store, taken so that the views can be compared (SOUNDNESS 12).

Three things make naive comparisons lie: a member may still be applying, Status
reads its revision and applied index apart from one another, and compaction is
asynchronous, so that hashes taken at one moment may be of different histories.
Hence a round reads every Status, then HashKV on every voting member at *one*
explicit revision, the lowest of the members'.  It counts if nothing moved in
it (all applied indices equal, every revision as before, every compact revision
the same) and nothing since the round before it.  Rounds repeat until one
counts or time is up; the last one is returned in any case, since members that
never agree are what is looked for.

A member whose newest revision is the common one is asked for the hash of its
newest, and the answer's header says that it was of that revision: asked for it
by number, 3.4 and 3.5.1 refuse a revision that is the compact revision, and
3.5.16 and later may answer with what they computed while compacting, from the
compact revision before, which a restarted member has forgotten (seen).

Keys are then read by serializable ranges.  Members that have applied the same
log are read at their *own* revisions: where those differ, it shows what each
member would answer, which is where they diverged.  Members that are still
apart when time is up are read at the common revision, the only one of which
they can be expected to say the same.  Learners refuse HashKV and are compared
by their keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

import msgspec

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import HASH_KV, RANGE, STATUS
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.rpc import Rpc, ask_all
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import bytes_of, text_of
from splitvote.harness.recording import MemberReading

PAGE_KEYS: Final = 500
"""Keys a page of a whole store; values are small in every workload, so a page is well below a megabyte."""

FEW_KEYS: Final = 64
"""Up to so many keys are asked for one by one; more are found by paging the whole store."""

POLL_S: Final = 0.1
"""Between two rounds."""

KeyState = tuple[str, int, int, int]
"""Value, mod_revision, version, create_revision."""


async def read_members(rpcs: Mapping[str, Rpc], keys: Sequence[str], *, timeout_s: float) -> dict[str, MemberReading]:
    """Read every member's revision, hash and keys; all keys of its store when none are given.

    ``timeout_s`` bounds every call, and the rounds as a whole.  A member that
    does not answer has its ``error`` set; a hash that cannot be had at the
    common revision (compacted away by a member that is ahead) is None.
    """
    readings = await _comparable_round(rpcs, timeout_s)
    revisions = _revisions_to_read(readings)

    async def read(node: str, rpc: Rpc) -> MemberReading:
        revision = revisions.get(node)
        if revision is None:
            return readings[node]
        try:
            found = await _read_keys(rpc, keys, revision, timeout_s)
        except TransportError as error:
            return msgspec.structs.replace(readings[node], error=classify(error, "read").text)
        return msgspec.structs.replace(readings[node], keys=found)

    return dict(zip(rpcs, await asyncio.gather(*(read(node, rpc) for node, rpc in rpcs.items())), strict=True))


def _revisions_to_read(readings: Mapping[str, MemberReading]) -> dict[str, int]:
    """The revision at which each member that answered is to show its keys."""
    answered = {node: reading for node, reading in readings.items() if reading.error is None}
    own = {node: reading.revision for node, reading in answered.items() if reading.revision is not None}
    if len({reading.applied_index for reading in answered.values()}) == 1:
        return own
    return dict.fromkeys(own, min(own.values(), default=0))


async def _comparable_round(rpcs: Mapping[str, Rpc], timeout_s: float) -> dict[str, MemberReading]:
    """Rounds of Status and HashKV until one counts or the time is up; the last round."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    before: dict[str, MemberReading] | None = None
    while True:
        readings, is_still = await _round(rpcs, timeout_s)
        if (is_still and readings == before) or loop.time() + POLL_S > deadline_s:
            return readings
        before = readings
        await asyncio.sleep(POLL_S)


async def _round(rpcs: Mapping[str, Rpc], timeout_s: float) -> tuple[dict[str, MemberReading], bool]:
    """One Status and one HashKV of each member; and whether nothing moved meanwhile."""
    statuses = await ask_all(rpcs, lambda node, rpc: rpc.unary(STATUS, pb.StatusRequest(), timeout_s=timeout_s))
    readings = {node: _reading_of(status) for node, status in statuses.items()}
    voters = {node: rpc for node, rpc in rpcs.items() if _can_hash(readings[node])}
    common = min((reading.revision for reading in readings.values() if reading.revision is not None), default=0)
    if not voters or common < 1:
        return readings, False
    hashes = await _hashes(voters, readings, common, timeout_s)
    is_still = all(
        not isinstance(answer, TransportError) and answer.header.revision == readings[node].revision
        for node, answer in hashes.items()
    )
    for node, answer in hashes.items():
        readings[node] = _with_hash(readings[node], answer, common)
    return readings, is_still and _agree_on_place(readings)


async def _hashes(
    rpcs: Mapping[str, Rpc], readings: Mapping[str, MemberReading], common: int, timeout_s: float
) -> dict[str, pb.HashKVResponse | TransportError]:
    """HashKV of every member at the common revision: by its number, or as the newest where it is."""

    def ask(node: str, rpc: Rpc) -> Awaitable[pb.HashKVResponse]:
        revision = 0 if readings[node].revision == common else common
        return rpc.unary(HASH_KV, pb.HashKVRequest(revision=revision), timeout_s=timeout_s)

    return await ask_all(rpcs, ask)


def _reading_of(status: pb.StatusResponse | TransportError) -> MemberReading:
    if isinstance(status, TransportError):
        return MemberReading(error=classify(status, "read").text)
    return MemberReading(
        revision=status.header.revision, applied_index=status.raftAppliedIndex, is_learner=status.isLearner
    )


def _can_hash(reading: MemberReading) -> bool:
    return reading.error is None and not reading.is_learner


def _with_hash(reading: MemberReading, answer: pb.HashKVResponse | TransportError, revision: int) -> MemberReading:
    if not isinstance(answer, TransportError):
        is_newest = reading.revision == revision
        return msgspec.structs.replace(
            reading,
            compact_revision=answer.compact_revision,
            hash_revision=answer.header.revision if is_newest else revision,
            hash=answer.hash,
        )
    if classify(answer, "read").name in ("compacted", "future-revision"):
        return reading  # it answers, only not about that revision: its keys can still be compared
    return msgspec.structs.replace(reading, error=classify(answer, "read").text)


def _agree_on_place(readings: Mapping[str, MemberReading]) -> bool:
    """Whether everybody answered, has applied the same log, and the hashes begin at the same compact revision."""
    compacted = [reading.compact_revision for reading in readings.values() if _can_hash(reading)]
    return (
        all(reading.error is None for reading in readings.values())
        and len({reading.applied_index for reading in readings.values()}) == 1
        and len(set(compacted)) == 1
    )


async def _read_keys(rpc: Rpc, keys: Sequence[str], revision: int, timeout_s: float) -> dict[str, KeyState]:
    if not 0 < len(keys) <= FEW_KEYS:
        return await _read_store(rpc, revision, timeout_s)
    found: dict[str, KeyState] = {}
    for key in keys:
        request = pb.RangeRequest(key=bytes_of(key), revision=revision, serializable=True)
        answer = await rpc.unary(RANGE, request, timeout_s=timeout_s)
        found |= _states(answer)
    return found


async def _read_store(rpc: Rpc, revision: int, timeout_s: float) -> dict[str, KeyState]:
    """Every key of the store as of a revision, a page at a time."""
    found: dict[str, KeyState] = {}
    request = pb.RangeRequest(key=b"\0", range_end=b"\0", revision=revision, limit=PAGE_KEYS, serializable=True)
    while True:
        answer = await rpc.unary(RANGE, request, timeout_s=timeout_s)
        found |= _states(answer)
        if not answer.more:
            return found
        request.key = answer.kvs[-1].key + b"\0"


def _states(answer: pb.RangeResponse) -> dict[str, KeyState]:
    return {text_of(kv.key): (text_of(kv.value), kv.mod_revision, kv.version, kv.create_revision) for kv in answer.kvs}
