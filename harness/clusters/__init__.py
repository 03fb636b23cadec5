"""Backends: how nodes, their processes, links, logs and data are had, as the capabilities of ``harness/cluster.py``.

``local`` runs real members as children on 127.0.0.1.  What a member *is* (its
binary, flags, RPCs) belongs to ``harness/etcd``; which faults to inject, and
the proof that they took effect, to ``nemesis``.
"""
