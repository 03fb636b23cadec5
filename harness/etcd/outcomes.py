"""The error table: did a call that failed take effect?

One ordered table from a TransportError to a row; the first row that matches
says the outcome, and unknown errors of writes are ``info``, never ``fail``.  A
read has no effect, so a failed read is a ``fail`` whatever the row; the row
then only names the error's class.

Why ordered: "failed to connect to all addresses; last error: ... Connection
reset by peer" was never sent, while "Connection reset by peer" broke a call
under way, whatever follows it; so the row of calls never sent comes first, and
looks at how the message begins.

Rows of definite outcomes demand the gRPC code that etcd itself gives, and
words where a code has several meanings.  Source: etcd's
api/v3rpc/rpctypes/error.go for codes and words, and where in the server each
error is raised (before the proposal, at its apply, or while waiting for it).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from splitvote.harness.errors import TransportError

Call = Literal["read", "write", "compact", "composite"]
"""What failed.

A read; a write (Put, Txn, leases, members ...); Compact, whose bad revision is
refused at its apply; or a call of several steps, which may have done some of
them when it fails: server-side Lock and Election calls, and any request on a
stream (a keepalive), since the stream's error need not be about that request.
"""


class Row(msgspec.Struct, frozen=True):
    """One class of errors, or a part of one: rows may share a name.

    A row matches an error of one of ``codes`` (none: any) whose message begins
    with ``start`` and contains one of ``words`` (none: any), of one of the
    ``calls`` (none: any, but composite calls only match what is ``info``).
    ``outcome`` is that of a call that changes something.
    """

    name: str
    outcome: Literal["fail", "info"]
    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    start: str = ""

    def matches(self, error: TransportError, call: Call) -> bool:
        """Whether this row is about this error of such a call."""
        return (
            self._is_about(call)
            and (not self.codes or error.code in self.codes)
            and error.message.startswith(self.start)
            and (not self.words or any(word in error.message for word in self.words))
        )

    def _is_about(self, call: Call) -> bool:
        if call == "read":
            return True
        return call in self.calls if self.calls else call != "composite" or self.outcome == "info"


TABLE: Final[tuple[Row, ...]] = (
    # Never sent.
    Row(
        "not-connected",
        "fail",
        ("UNAVAILABLE",),
        calls=("write", "compact", "composite"),
        start="failed to connect to all addresses",
    ),
    # The server gave up waiting for its own proposal, which may still be committed.
    Row("server-timeout-waiting-to-apply", "info", (), ("waiting for the applied index",)),
    Row("server-timeout", "info", (), ("etcdserver: request timed out",)),
    Row("server-deadline", "info", (), ("context deadline exceeded",)),
    Row("server-cancelled", "info", (), ("context canceled", "etcdserver: request cancelled")),
    # The stream broke, or our own patience ended, before the answer.
    Row("deadline", "info", ("DEADLINE_EXCEEDED",)),
    Row(
        "broken-stream",
        "info",
        ("UNAVAILABLE", "UNKNOWN", "INTERNAL"),
        ("Stream removed", "Connection reset", "Broken pipe", "Socket closed", "GOAWAY", "Connection timed out"),
    ),
    # In order, though it was to go on: as etcd ends an Observe whose member cannot read.
    Row("stream-ended", "info", ("UNAVAILABLE",), start="the server ended the "),
    Row("stopped", "info", (), ("etcdserver: server stopped", "raft: stopped")),
    Row("cancelled", "info", ("CANCELLED",)),
    Row("leader-changed", "info", (), ("etcdserver: leader changed",)),
    Row("not-primary", "info", ("UNKNOWN",), ("not a primary lessor",)),
    Row("corrupt", "info", (), ("etcdserver: corrupt cluster",)),
    # Answered as an error and applied all the same (seen on 3.4.23, 3.5.16 and 3.5.30).
    Row("no-space", "info", (), ("database space exceeded",)),
    # Refused before the proposal.
    Row("too-many-requests", "fail", ("RESOURCE_EXHAUSTED",), ("etcdserver: too many requests",)),
    Row("not-for-learners", "fail", ("UNAVAILABLE", "FAILED_PRECONDITION"), ("rpc not supported for learner",)),
    Row("not-capable", "fail", ("UNAVAILABLE", "FAILED_PRECONDITION"), ("etcdserver: not capable",)),
    Row("no-leader", "fail", ("UNAVAILABLE",), ("etcdserver: no leader",)),
    Row("unhealthy", "fail", ("UNAVAILABLE",), ("etcdserver: unhealthy cluster",)),
    Row("not-enough-started", "fail", ("FAILED_PRECONDITION",), ("not enough started members",)),
    Row("bad-leader-transferee", "fail", ("FAILED_PRECONDITION",), ("bad leader transferee",)),
    Row("invalid-auth-token", "fail", ("UNAUTHENTICATED",), ("invalid auth token",)),
    Row("invalid-auth-token", "fail", ("UNKNOWN",), start="auth: invalid auth token"),  # of the Maintenance service
    Row("user-empty", "fail", ("INVALID_ARGUMENT",), ("user name is empty",)),
    Row("user-empty", "fail", ("UNKNOWN",), start="auth: user name is empty"),  # of the Maintenance service
    Row("auth-not-enabled", "fail", ("FAILED_PRECONDITION",), ("authentication is not enabled",)),
    # Refused at its apply, on every member alike.
    Row("auth-revision-old", "fail", ("INVALID_ARGUMENT",), ("revision of auth store is old",)),
    Row("permission-denied", "fail", ("PERMISSION_DENIED",), ("permission denied",)),
    Row("lease-not-found", "fail", ("NOT_FOUND",), ("requested lease not found",)),
    Row("lease-exists", "fail", ("FAILED_PRECONDITION",), ("lease already exists",)),
    Row("member-not-found", "fail", ("NOT_FOUND",), ("member not found",)),
    Row("member-exists", "fail", ("FAILED_PRECONDITION",), ("member ID already exist",)),
    Row("proposal-dropped", "fail", ("UNKNOWN",), ("raft proposal dropped",)),
    Row("compacted", "fail", ("OUT_OF_RANGE",), ("required revision has been compacted",), ("compact",)),
    Row("future-revision", "fail", ("OUT_OF_RANGE",), ("required revision is a future revision",), ("compact",)),
    # A write transaction with a range at a revision fails at its apply, half done on some members (issue 18667).
    Row("compacted-in-write", "info", ("OUT_OF_RANGE",), ("required revision has been compacted",)),
    Row("future-revision-in-write", "info", ("OUT_OF_RANGE",), ("required revision is a future revision",)),
    # An empty key, a duplicate key, too many operations, a request too large, an empty user ...
    Row("invalid-argument", "fail", ("INVALID_ARGUMENT",)),
    Row("internal", "info", ("INTERNAL",)),
    # What the lock and election services pass on as UNKNOWN: one of their steps failed, others may have been done.
    Row("lease-not-found", "info", ("UNKNOWN",), ("requested lease not found",), ("composite",)),
    Row("proposal-dropped", "info", ("UNKNOWN",), ("raft proposal dropped",), ("composite",)),
    Row("compacted", "info", ("UNKNOWN",), ("required revision has been compacted",), ("composite",)),
    Row("no-leader", "info", ("UNKNOWN",), ("etcdserver: no leader",), ("composite",)),
    Row("too-many-requests", "info", ("UNKNOWN",), ("etcdserver: too many requests",), ("composite",)),
    Row(
        "not-for-learners",
        "info",
        ("UNAVAILABLE", "FAILED_PRECONDITION", "UNKNOWN"),
        ("rpc not supported for learner",),
        ("composite",),
    ),
    Row("user-empty", "info", ("UNKNOWN", "INVALID_ARGUMENT"), ("user name is empty",), ("composite",)),
    Row("not-leader", "info", ("UNKNOWN",), ("election: not leader",), ("composite",)),
    Row("observation-ended", "info", ("UNKNOWN",), ("election: observe closed early",), ("composite",)),
    Row("lost-watcher", "info", ("UNKNOWN",), ("lost watcher waiting for delete",), ("composite",)),
)

_UNLISTED: Final = "unlisted"


class Outcome(msgspec.Struct, frozen=True):
    """What to record: the completion's type, and the row's name with the error's own words.

    ``text`` is for ``Op.error``: a short stable class, a colon, the message.
    """

    type: Literal["fail", "info"]
    name: str
    text: str


def classify(error: TransportError, call: Call) -> Outcome:
    """Judge a failed call by the first row that matches; an unlisted error of a call that changes things is info."""
    for row in TABLE:
        if row.matches(error, call):
            return Outcome("fail" if call == "read" else row.outcome, row.name, f"{row.name}: {error.message}")
    return Outcome("fail" if call == "read" else "info", _UNLISTED, f"{_UNLISTED}: {error.code}: {error.message}")


def outcome(error: TransportError, *, is_read: bool) -> Outcome:
    """Judge a failed read or write (see ``classify``)."""
    return classify(error, "read" if is_read else "write")
