"""splitvote: a fault-injection test harness for etcd and systems like it.

This folder holds nothing but relative symlinks to the five rooms of the
project (harness, workloads, nemesis, checkers, reports), so that an editable
install, the wheel, pytest and mypy all see one ordinary package.  Code imports
``splitvote.checkers``, never ``checkers``.
"""

__version__ = "0.1.0"
