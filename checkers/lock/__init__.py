"""Locks judged against the store's own history, and sets that locks guard.

Here live the checkers of the ``lock`` and ``lock-set`` workloads and what they
share with bindings (names of keys and error classes); nothing of how a lock is
taken.
"""

from splitvote.checkers.lock.checker import LockChecker
from splitvote.checkers.lock.sets import LockSetChecker

__all__ = ["LockChecker", "LockSetChecker"]
