"""Leases judged against the store's own history, the clock and the leaders: when they ended, and what ended with them.

Here live the checker of the ``lease`` workload and its rules; nothing of how a
request is sent.
"""

from splitvote.checkers.lease.checker import LeaseChecker
from splitvote.checkers.lease.leftovers import LATE_AFTER_S

__all__ = ["LATE_AFTER_S", "LeaseChecker"]
