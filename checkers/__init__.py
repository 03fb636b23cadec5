"""Judges of recorded histories: pure functions from a recording to a Result; they know nothing of clusters."""
