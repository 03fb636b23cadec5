"""Elections, judged against the store's history: who led by revision, what candidates and observers were told of it."""

from splitvote.checkers.election.checker import PREFIX, ElectionChecker
from splitvote.checkers.election.claims import DEPOSED, NOT_LEADING
from splitvote.checkers.election.reigns import GUARDED

__all__ = ["DEPOSED", "GUARDED", "NOT_LEADING", "PREFIX", "ElectionChecker"]
