"""What etcd answers when it refuses: its codes and exact words, which the error table judges as a real member's.

Source: etcd's api/v3rpc/rpctypes/error.go, and the words of lock, election and
watch where they are raised.
"""

from __future__ import annotations

from typing import Final

from splitvote.harness.errors import TransportError

Refusal = tuple[str, str]
"""A gRPC code and etcd's words."""

EMPTY_KEY: Final = ("INVALID_ARGUMENT", "etcdserver: key is not provided")
KEY_NOT_FOUND: Final = ("INVALID_ARGUMENT", "etcdserver: key not found")
VALUE_PROVIDED: Final = ("INVALID_ARGUMENT", "etcdserver: value is provided")
LEASE_PROVIDED: Final = ("INVALID_ARGUMENT", "etcdserver: lease is provided")
TOO_MANY_OPS: Final = ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request")
DUPLICATE_KEY: Final = ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request")
INVALID_SORT: Final = ("INVALID_ARGUMENT", "etcdserver: invalid sort option")
REQUEST_TOO_LARGE: Final = ("INVALID_ARGUMENT", "etcdserver: request is too large")
COMPACTED: Final = ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION: Final = ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
NO_SPACE: Final = ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
CORRUPT: Final = ("DATA_LOSS", "etcdserver: corrupt cluster")
LEASE_NOT_FOUND: Final = ("NOT_FOUND", "etcdserver: requested lease not found")
LEASE_EXISTS: Final = ("FAILED_PRECONDITION", "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE: Final = ("OUT_OF_RANGE", "etcdserver: too large lease TTL")
TIMEOUT: Final = ("UNAVAILABLE", "etcdserver: request timed out")
TIMEOUT_WAIT_APPLIED: Final = (
    "UNAVAILABLE",
    "etcdserver: request timed out, waiting for the applied index took too long",
)
LEADER_CHANGED: Final = ("UNAVAILABLE", "etcdserver: leader changed")
NO_LEADER: Final = ("UNAVAILABLE", "etcdserver: no leader")
NOT_LEADER: Final = ("FAILED_PRECONDITION", "etcdserver: not leader")
NOT_FOR_LEARNERS: Final = ("UNAVAILABLE", "etcdserver: rpc not supported for learner")
TIMEOUT_LEADER_FAILURE: Final = (
    "UNAVAILABLE",
    "etcdserver: request timed out, possibly due to previous leader failure",
)
TIMEOUT_LEADER_TRANSFER: Final = ("UNAVAILABLE", "etcdserver: request timed out, leader transfer took too long")
STOPPED: Final = ("UNAVAILABLE", "etcdserver: server stopped")
CANCELLED: Final = ("CANCELLED", "etcdserver: request cancelled")
TOO_MANY_REQUESTS: Final = ("RESOURCE_EXHAUSTED", "etcdserver: too many requests")
PROPOSAL_DROPPED: Final = ("UNKNOWN", "raft proposal dropped")
BAD_LEADER_TRANSFEREE: Final = ("FAILED_PRECONDITION", "etcdserver: bad leader transferee")
MEMBER_NOT_FOUND: Final = ("NOT_FOUND", "etcdserver: member not found")
MEMBER_EXISTS: Final = ("FAILED_PRECONDITION", "etcdserver: member ID already exist")
PEER_URL_EXISTS: Final = ("FAILED_PRECONDITION", "etcdserver: Peer URLs already exists")
NOT_ENOUGH_STARTED: Final = (
    "FAILED_PRECONDITION",
    "etcdserver: re-configuration failed due to not enough started members",
)
UNHEALTHY: Final = ("UNAVAILABLE", "etcdserver: unhealthy cluster")
NOT_A_LEARNER: Final = ("FAILED_PRECONDITION", "etcdserver: can only promote a learner member")
LEARNER_NOT_READY: Final = (
    "FAILED_PRECONDITION",
    "etcdserver: can only promote a learner member which is in sync with leader",
)
TOO_MANY_LEARNERS: Final = ("FAILED_PRECONDITION", "etcdserver: too many learner members in cluster")

NO_ELECTION_LEADER: Final = ("UNKNOWN", "election: no leader")
NOT_ELECTION_LEADER: Final = ("UNKNOWN", "election: not leader")
MISSING_LEADER_KEY: Final = ("UNKNOWN", '"leader" field must be provided')
SESSION_EXPIRED: Final = ("UNKNOWN", "mutex: session is expired")

EMPTY_WATCH_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_WATCH_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"
WATCH_COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"


def error(refusal: Refusal) -> TransportError:
    """The exception that says it; a fresh one, since a raised exception remembers where."""
    return TransportError(*refusal)
