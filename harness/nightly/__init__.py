"""A night: runs of several workloads one after another, for a time, all of it from one seed.

``plan`` says which runs, ``night`` carries them out and judges the whole,
``ledger`` is what it tried, kept in the store, ``verdicts`` makes the rows of
its table, ``commands`` is the command line.  How a single run goes is
``harness.campaign``'s: a night calls ``splitvote run`` as anybody would, so
that each of its runs can be repeated by the command that it prints, and a run
that dies takes no other with it.

Nothing is imported here: the command line loads ``commands`` to answer ``--help``.
"""
