"""The error table, row by row, with the words that etcd 3.4 and 3.5 and gRPC use."""

from __future__ import annotations

from itertools import permutations

import pytest

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.outcomes import TABLE, Call, classify, outcome

REFUSED = "last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: "

WRITES: list[tuple[str, str, str, str]] = [
    ("not-connected", "fail", "UNAVAILABLE", f"failed to connect to all addresses; {REFUSED}Connection refused"),
    ("not-connected", "fail", "UNAVAILABLE", f"failed to connect to all addresses; {REFUSED}Connection reset by peer"),
    ("not-connected", "fail", "UNAVAILABLE", f"failed to connect to all addresses; {REFUSED}Broken pipe"),
    ("server-timeout-waiting-to-apply", "info", "UNAVAILABLE",
     "etcdserver: request timed out, waiting for the applied index took too long"),
    ("server-timeout", "info", "UNAVAILABLE", "etcdserver: request timed out"),
    ("server-timeout", "info", "UNAVAILABLE", "etcdserver: request timed out, possibly due to connection lost"),
    ("server-timeout", "info", "UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure"),
    ("server-deadline", "info", "UNKNOWN", "context deadline exceeded"),
    ("server-deadline", "info", "DEADLINE_EXCEEDED", "context deadline exceeded"),
    ("server-cancelled", "info", "UNKNOWN", "context canceled"),
    ("server-cancelled", "info", "CANCELLED", "etcdserver: request cancelled"),
    ("deadline", "info", "DEADLINE_EXCEEDED", "Stream removed (Deadline Exceeded)"),
    ("deadline", "info", "DEADLINE_EXCEEDED", "Deadline Exceeded"),
    ("broken-stream", "info", "UNAVAILABLE", "Stream removed (Socket closed)"),
    ("broken-stream", "info", "UNAVAILABLE",
     "Stream removed (Socket closed (GOAWAY received; Error code: 0; Debug Text: ))"),
    ("broken-stream", "info", "UNKNOWN", "Stream removed"),
    ("broken-stream", "info", "UNAVAILABLE", "recvmsg:Connection reset by peer"),
    ("broken-stream", "info", "UNAVAILABLE", "sendmsg: Broken pipe (32)"),
    ("broken-stream", "info", "UNAVAILABLE", "Socket closed"),
    ("broken-stream", "info", "UNAVAILABLE", "GOAWAY received"),
    ("broken-stream", "info", "UNAVAILABLE", "recvmsg:Connection timed out"),
    ("stream-ended", "info", "UNAVAILABLE", "the server ended the observation"),
    ("stopped", "info", "UNAVAILABLE", "etcdserver: server stopped"),
    ("stopped", "info", "UNKNOWN", "etcdserver: server stopped"),
    ("cancelled", "info", "CANCELLED", "Received RST_STREAM with error code 8"),
    ("leader-changed", "info", "UNAVAILABLE", "etcdserver: leader changed"),
    ("corrupt", "info", "DATA_LOSS", "etcdserver: corrupt cluster"),
    ("no-space", "info", "RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
    ("too-many-requests", "fail", "RESOURCE_EXHAUSTED", "etcdserver: too many requests"),
    ("not-for-learners", "fail", "UNAVAILABLE", "etcdserver: rpc not supported for learner"),
    ("not-for-learners", "fail", "FAILED_PRECONDITION", "etcdserver: rpc not supported for learner"),
    ("not-capable", "fail", "UNAVAILABLE", "etcdserver: not capable"),
    ("no-leader", "fail", "UNAVAILABLE", "etcdserver: no leader"),
    ("unhealthy", "fail", "UNAVAILABLE", "etcdserver: unhealthy cluster"),
    ("not-enough-started", "fail", "FAILED_PRECONDITION",
     "etcdserver: re-configuration failed due to not enough started members"),
    ("bad-leader-transferee", "fail", "FAILED_PRECONDITION", "etcdserver: bad leader transferee"),
    ("invalid-auth-token", "fail", "UNAUTHENTICATED", "etcdserver: invalid auth token"),
    ("invalid-auth-token", "fail", "UNKNOWN", "auth: invalid auth token"),
    ("auth-revision-old", "fail", "INVALID_ARGUMENT", "etcdserver: revision of auth store is old"),
    ("permission-denied", "fail", "PERMISSION_DENIED", "etcdserver: permission denied"),
    ("lease-not-found", "fail", "NOT_FOUND", "etcdserver: requested lease not found"),
    ("lease-exists", "fail", "FAILED_PRECONDITION", "etcdserver: lease already exists"),
    ("member-not-found", "fail", "NOT_FOUND", "etcdserver: member not found"),
    ("member-exists", "fail", "FAILED_PRECONDITION", "etcdserver: member ID already exist"),
    ("proposal-dropped", "fail", "UNKNOWN", "raft proposal dropped"),
    ("compacted-in-write", "info", "OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
    ("future-revision-in-write", "info", "OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
    ("invalid-argument", "fail", "INVALID_ARGUMENT", "etcdserver: key is not provided"),
    ("invalid-argument", "fail", "INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request"),
    ("invalid-argument", "fail", "INVALID_ARGUMENT", "etcdserver: too many operations in txn request"),
    ("invalid-argument", "fail", "INVALID_ARGUMENT", "etcdserver: request is too large"),
    ("invalid-argument", "fail", "INVALID_ARGUMENT", "etcdserver: key is not provided"),
    ("user-empty", "fail", "INVALID_ARGUMENT", "etcdserver: user name is empty"),
    ("user-empty", "fail", "UNKNOWN", "auth: user name is empty"),
    ("auth-not-enabled", "fail", "FAILED_PRECONDITION", "etcdserver: authentication is not enabled"),
    ("stopped", "info", "UNKNOWN", "raft: stopped"),
    ("not-primary", "info", "UNKNOWN", "not a primary lessor"),
    ("internal", "info", "INTERNAL", "Received RST_STREAM with error code 2"),
]  # fmt: skip

COMPACTIONS = [
    ("compacted", "fail", "OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
    ("future-revision", "fail", "OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
]

SERVICES = [
    ("lease-not-found", "info", "UNKNOWN", "etcdserver: requested lease not found"),
    ("proposal-dropped", "info", "UNKNOWN", "raft proposal dropped"),
    ("compacted", "info", "UNKNOWN", "etcdserver: mvcc: required revision has been compacted"),
    ("no-leader", "info", "UNKNOWN", "etcdserver: no leader"),
    ("too-many-requests", "info", "UNKNOWN", "etcdserver: too many requests"),
    ("not-for-learners", "info", "UNAVAILABLE", "etcdserver: rpc not supported for learner"),
    ("user-empty", "info", "UNKNOWN", "etcdserver: user name is empty"),
    ("not-leader", "info", "UNKNOWN", "election: not leader"),
    ("observation-ended", "info", "UNKNOWN", "election: observe closed early"),
    ("lost-watcher", "info", "UNKNOWN", "lost watcher waiting for delete"),
]


@pytest.mark.parametrize(("name", "type_", "code", "message"), SERVICES)
def test_what_the_lock_and_election_services_pass_on_is_known_and_info(
    name: str, type_: str, code: str, message: str
) -> None:
    """Some of their steps may have been done; a read of theirs still changed nothing."""
    judged = classify(TransportError(code, message), "composite")
    assert (judged.name, judged.type) == (name, type_)
    assert classify(TransportError(code, message), "read").type == "fail"


@pytest.mark.parametrize(("name", "type_", "code", "message"), WRITES)
def test_each_row_judges_a_write(name: str, type_: str, code: str, message: str) -> None:
    judged = outcome(TransportError(code, message), is_read=False)
    assert (judged.name, judged.type) == (name, type_)
    assert judged.text == f"{name}: {message}"


@pytest.mark.parametrize(("name", "type_", "code", "message"), COMPACTIONS)
def test_a_compaction_is_refused_at_its_apply(name: str, type_: str, code: str, message: str) -> None:
    judged = classify(TransportError(code, message), "compact")
    assert (judged.name, judged.type) == (name, type_)


def test_every_row_has_a_case() -> None:
    errors: list[tuple[TransportError, Call]]
    errors = [(TransportError(code, message), "write") for _, _, code, message in WRITES]
    errors += [(TransportError(code, message), "compact") for _, _, code, message in COMPACTIONS]
    errors += [(TransportError(code, message), "composite") for _, _, code, message in SERVICES]
    hit = [next(row for row in TABLE if row.matches(error, call)) for error, call in errors]
    assert [row for row in TABLE if row not in hit] == []


@pytest.mark.parametrize(("name", "type_", "code", "message"), WRITES)
def test_a_failed_read_is_a_fail_whatever_the_row(name: str, type_: str, code: str, message: str) -> None:
    assert outcome(TransportError(code, message), is_read=True).type == "fail"


@pytest.mark.parametrize("code", ["UNKNOWN", "UNAVAILABLE", "FAILED_PRECONDITION", "NOT_FOUND", "ABORTED", "OK"])
def test_an_unlisted_error_of_a_write_is_info_and_of_a_read_fail(code: str) -> None:
    error = TransportError(code, "etcdserver: something nobody has seen yet")
    assert outcome(error, is_read=False).type == "info"
    assert outcome(error, is_read=True).type == "fail"
    assert outcome(error, is_read=False).text == f"unlisted: {code}: something nobody has seen yet".replace(
        f"{code}: ", f"{code}: etcdserver: "
    )


BREAKS = ["Connection reset by peer", "Socket closed", "Broken pipe", "Stream removed", "GOAWAY received"]


@pytest.mark.parametrize("broken", BREAKS)
def test_what_a_message_begins_with_decides_between_never_sent_and_broken(broken: str) -> None:
    """SOUNDNESS 19, in both orders of the words."""
    never_sent = "failed to connect to all addresses"
    judged = {
        order[0]: outcome(TransportError("UNAVAILABLE", "; last error: ".join(order)), is_read=False)
        for order in permutations((never_sent, broken))
    }
    assert (judged[never_sent].name, judged[never_sent].type) == ("not-connected", "fail")
    assert (judged[broken].name, judged[broken].type) == ("broken-stream", "info")


def test_the_order_of_the_rows_matters() -> None:
    """With the rows the other way round a call never sent would count as broken under way."""
    error = TransportError("UNAVAILABLE", f"failed to connect to all addresses; {REFUSED}Connection reset by peer")
    matching = [row for row in TABLE if row.matches(error, "write")]
    assert [row.outcome for row in matching] == ["fail", "info"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("UNKNOWN", "etcdserver: requested lease not found"),
        ("UNKNOWN", "rpc error: code = NotFound desc = etcdserver: requested lease not found"),
        ("UNKNOWN", "etcdserver: permission denied"),
        ("UNKNOWN", "etcdserver: too many requests"),
        ("UNKNOWN", "etcdserver: no leader"),
        ("UNKNOWN", "etcdserver: invalid auth token"),
    ],
)
def test_a_definite_error_wrapped_by_lock_or_election_is_not_taken_for_definite(code: str, message: str) -> None:
    assert outcome(TransportError(code, message), is_read=False).type == "info"


@pytest.mark.parametrize(("name", "type_", "code", "message"), WRITES)
def test_a_call_of_several_steps_certainly_did_nothing_only_if_never_sent(
    name: str, type_: str, code: str, message: str
) -> None:
    judged = classify(TransportError(code, message), "composite")
    assert judged.type == ("fail" if name == "not-connected" else "info")


CALLS: tuple[Call, ...] = ("write", "compact", "composite")


@pytest.mark.parametrize("call", CALLS)
def test_no_space_is_info_since_the_put_was_applied_all_the_same(call: Call) -> None:
    error = TransportError("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
    assert classify(error, call).type == "info"
