"""Faults: start/stop pairs with proof of effect, and schedules of them; they know capabilities only."""
