"""Watches judged against the store's own history: what was asked for, what was told, which promise was broken.

Here live the language of the ``watch`` workload (``plan``) and its checker;
nothing of how a watch is opened.
"""

from splitvote.checkers.watch.checker import WatchChecker

__all__ = ["WatchChecker"]
