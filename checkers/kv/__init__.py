"""Mixed etcd traffic judged against the store's own history: what requests mean, the truth by revision, the rules.

Here live the request language of the ``kv`` workload and its checker; nothing of
how a request is sent.
"""

from splitvote.checkers.kv.checker import KvChecker

__all__ = ["KvChecker"]
