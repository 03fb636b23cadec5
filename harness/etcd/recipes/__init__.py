"""etcd's client recipes on the RPC seam: sessions, mutexes and elections, to the semantics of clientv3/concurrency.

One code for real and simulated members: time comes from the running loop, there
is no randomness, and nothing here knows of workloads.  A recipe that fails
raises the seam's TransportError; whether its key may be left behind is for
``outcome_of`` to say.
"""

from splitvote.harness.etcd.recipes.election import Election, Guarded, Observer, Standing, leader_of
from splitvote.harness.etcd.recipes.lock import Mutex
from splitvote.harness.etcd.recipes.served import ServedElection, ServedObserver, served_leader_of
from splitvote.harness.etcd.recipes.session import KeepAlive, LeaseHolder, Session
from splitvote.harness.etcd.recipes.waiting import SessionExpired, key_below, outcome_of

__all__ = [
    "Election",
    "Guarded",
    "KeepAlive",
    "LeaseHolder",
    "Mutex",
    "Observer",
    "ServedElection",
    "ServedObserver",
    "Session",
    "SessionExpired",
    "Standing",
    "key_below",
    "leader_of",
    "outcome_of",
    "served_leader_of",
]
