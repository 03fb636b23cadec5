"""Generators: immutable values that say, op by op, what a test does next.

Here live the protocol (``core``), what a generator may know (``context``), the
algebra of generators (Jepsen's, in snake_case), and simulators that drive a
generator without a cluster (``simulation``).  Running one against a cluster is
the runner's; which ops a workload wants is the workload's.  docs/generators.md
is the manual.
"""

from splitvote.harness.generator.choice import any_of, flip_flop, mix
from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import (
    LOG,
    NOTHING,
    PENDING,
    Answer,
    Generator,
    GeneratorError,
    GeneratorLike,
    Pending,
    is_log,
    lift,
)
from splitvote.harness.generator.counting import (
    concurrency_limit,
    cycle,
    limit,
    once,
    process_limit,
    repeat,
    until_ok,
)
from splitvote.harness.generator.keys import concurrent_keys, sequential_keys
from splitvote.harness.generator.ordering import log, phases, synchronize, then
from splitvote.harness.generator.partition import each_process, each_thread, reserve
from splitvote.harness.generator.threads import clients, nemesis, on_threads
from splitvote.harness.generator.timing import cycle_times, delay, rate, sleep, stagger, time_limit
from splitvote.harness.generator.transform import f_map, filter_ops, map_ops, on_update, trace, validate

__all__ = [
    "LOG",
    "NOTHING",
    "PENDING",
    "Answer",
    "Context",
    "Generator",
    "GeneratorError",
    "GeneratorLike",
    "Pending",
    "any_of",
    "clients",
    "concurrency_limit",
    "concurrent_keys",
    "cycle",
    "cycle_times",
    "delay",
    "each_process",
    "each_thread",
    "f_map",
    "filter_ops",
    "flip_flop",
    "is_log",
    "lift",
    "limit",
    "log",
    "map_ops",
    "mix",
    "nemesis",
    "on_threads",
    "on_update",
    "once",
    "phases",
    "process_limit",
    "rate",
    "repeat",
    "reserve",
    "sequential_keys",
    "sleep",
    "stagger",
    "synchronize",
    "then",
    "time_limit",
    "trace",
    "until_ok",
    "validate",
]
