"""What mutexes and elections share: keys in a queue by create revision, and waiting for one's turn.

Every contender puts the key ``prefix/lease`` (the lease in hexadecimal); whose
create revision is the smallest has its turn.  One waits for the deletion of the
nearest older key only, so that a release wakes one waiter and not all of them.
Source: etcd's client/v3/concurrency/key.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import RANGE, WATCH
from splitvote.harness.etcd.outcomes import Outcome, classify
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

RETRY_PAUSE_S: Final = 0.1
"""What a waiter waits before it reads anew, after a read or watch failed."""

LEFT_BEHIND: Final = "its key is left behind until its lease ends"


class SessionExpired(Exception):
    """A contender's own key has vanished, so its session is over: what it waited for it does not have."""


def outcome_of(error: TransportError, *, create_revision: int | None) -> Outcome:
    """Judge a ``lock`` or ``campaign`` that failed, given the create revision the recipe then shows.

    Without one the error is that of putting the key, a single write.  With one
    the key is there: in its turn it holds the lock or leads, though nobody knows.
    """
    if create_revision is None:
        return classify(error, "write")
    judged = classify(error, "composite")
    return Outcome("info", judged.name, f"{judged.text} ({LEFT_BEHIND})")


def key_below(prefix: bytes, lease: int) -> bytes:
    """The key that the owner of this lease contends with; ``prefix`` ends with a slash."""
    return b"%s%x" % (prefix, lease)


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with this prefix, which ends with a slash."""
    return prefix[:-1] + b"0"


def has_created(key: bytes, create_revision: int) -> pb.Compare:
    """The condition that the key is there and the one created then; 0: that there is none."""
    return pb.Compare(target=pb.Compare.CREATE, result=pb.Compare.EQUAL, key=key, create_revision=create_revision)


def oldest_key(prefix: bytes) -> pb.RangeRequest:
    """A read of the key whose turn it is."""
    return pb.RangeRequest(
        key=prefix,
        range_end=end_of(prefix),
        limit=1,
        sort_order=pb.RangeRequest.ASCEND,
        sort_target=pb.RangeRequest.CREATE,
    )


class KeyWatch:
    """A watch on a stream of its own; made by ``KeyWatch.open``."""

    def __init__(self, stream: Stream[pb.WatchRequest, pb.WatchResponse]) -> None:
        self._stream = stream

    @classmethod
    async def open(cls, rpc: Rpc, key: bytes, *, start_revision: int, range_end: bytes = b"") -> KeyWatch:
        """Watch a key, or the keys up to ``range_end``; raises TransportError."""
        create = pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=start_revision)
        watch = cls(await rpc.stream(WATCH))
        try:
            await watch._stream.send(pb.WatchRequest(create_request=create))
        except BaseException:
            watch.cancel()
            raise
        return watch

    async def events(self) -> Sequence[pb.Event]:
        """The next answer's events, which may be none; TransportError when the watch has ended."""
        answer = await self._stream.receive()
        if answer is None:
            raise TransportError("UNAVAILABLE", "the server ended the watch")
        if answer.canceled:
            why = f"compacted at {answer.compact_revision}" if answer.compact_revision else answer.cancel_reason
            raise TransportError("UNAVAILABLE", f"the server cancelled the watch: {why}")
        return answer.events

    def cancel(self) -> None:
        """End the watch."""
        self._stream.cancel()


async def wait_for_turn(rpc: Rpc, prefix: bytes, create_revision: int, *, deadline_s: float) -> int:
    """Wait until no key of the prefix is older; returns the revision at which a read found none.

    Reads and watches that fail are made anew until ``deadline_s`` (the loop's
    clock): they change nothing.  Raises TransportError DEADLINE_EXCEEDED then.
    """
    loop = asyncio.get_running_loop()
    reason = "others are before it"
    try:
        async with asyncio.timeout_at(deadline_s):
            while True:
                try:
                    older = await rpc.unary(
                        RANGE,
                        _nearest_older(prefix, create_revision),
                        timeout_s=max(0.0, deadline_s - loop.time()),
                    )
                    if not older.kvs:
                        return older.header.revision
                    await _wait_for_deletion(rpc, older.kvs[0].key, older.header.revision)
                except TransportError as error:
                    reason = str(error)
                    await asyncio.sleep(RETRY_PAUSE_S)
    except TimeoutError:
        raise TransportError("DEADLINE_EXCEEDED", f"its turn did not come in time: {reason}") from None


def _nearest_older(prefix: bytes, create_revision: int) -> pb.RangeRequest:
    return pb.RangeRequest(
        key=prefix,
        range_end=end_of(prefix),
        limit=1,
        sort_order=pb.RangeRequest.DESCEND,
        sort_target=pb.RangeRequest.CREATE,
        max_create_revision=create_revision - 1,
        keys_only=True,
    )


async def _wait_for_deletion(rpc: Rpc, key: bytes, revision: int) -> None:
    """Wait until the key, which was there at this revision, is deleted."""
    watch = await KeyWatch.open(rpc, key, start_revision=revision + 1)
    try:
        while not any(event.type == pb.Event.DELETE for event in await watch.events()):
            pass
    finally:
        watch.cancel()
