"""The nemesis: families of faults, each with a proof of its effect and of its end, and schedules of them.

What must not live here: anything that knows a backend or the system under
test.  Faults see the capabilities of ``harness/cluster.py`` and nothing else.
docs/faults.md is the manual.
"""

from splitvote.nemesis.families import ALL, FAMILIES, Choice, Chosen, Family, parse_faults
from splitvote.nemesis.fault import Fault, Plan, Request, Site
from splitvote.nemesis.journal import Journal, closing, open_faults, read_faults, still_open
from splitvote.nemesis.package import HealReport, Nemesis, heal_open
from splitvote.nemesis.proof import Proof
from splitvote.nemesis.replay import Replay, read_replay
from splitvote.nemesis.schedule import DEFAULT_INTERVAL_S, Turn, one_at_a_time, overlapping, timeline, turns

__all__ = [
    "ALL",
    "DEFAULT_INTERVAL_S",
    "FAMILIES",
    "Choice",
    "Chosen",
    "Family",
    "Fault",
    "HealReport",
    "Journal",
    "Nemesis",
    "Plan",
    "Proof",
    "Replay",
    "Request",
    "Site",
    "Turn",
    "closing",
    "heal_open",
    "one_at_a_time",
    "open_faults",
    "overlapping",
    "parse_faults",
    "read_faults",
    "read_replay",
    "still_open",
    "timeline",
    "turns",
]
