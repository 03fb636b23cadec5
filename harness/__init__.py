"""What runs a test: records, generators, the runner, clusters, the system under test, the store, the command line.

What a workload does, what a fault is, how a history is judged and how a report
looks live in the sibling rooms; nothing of theirs belongs here.
"""
