"""When which fault begins and ends: schedules, a function of the run's seed alone.

A schedule is an endless sequence of *turns*: calm, a start, a hold, a stop.  It
goes in rounds; in a round every family has its turn (or several, as the family
says), in an order drawn anew for each round, so that no family starves.  A
family deals its faults, or for a single fault the ways to aim it, from a deck
that is shuffled anew when it is used up, so that a short run sees different
ones, too.

The n-th turn is drawn from (seed, n) and not from the generator's context: how
many operations clients have done by then must make no difference, or
``--dry-run`` could not tell what will happen.

``one_at_a_time`` and ``overlapping`` lay turns out as generators of the
nemesis's operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import Generator, any_of, lift, sleep, time_limit
from splitvote.harness.generator.randomness import branch_entropy, op_entropy
from splitvote.nemesis.families import Choice
from splitvote.nemesis.fault import Fault, Request
from splitvote.nemesis.targets import fraction, shuffled

DEFAULT_INTERVAL_S: Final = 5.0

HOLD: Final = (0.6, 2.0)
"""How long a fault is held, as shares of the interval: 3 to 10 s by default."""

CALM: Final = (0.3, 0.7)
"""How long it is calm before, as shares of the interval."""

BRIEF_HOLD: Final = (0.02, 0.2)
BRIEF_CALM: Final = (0.1, 0.3)
"""The same for faults that do their harm when they start."""

START_TAKES_S: Final = 1.0
STOP_TAKES_S: Final = 2.0
"""What a timeline takes a start and a stop to last, with their proofs; the real ones differ."""

_PICK_BITS: Final = 48
_ORDER, _DECK = 1, 2


class Turn(msgspec.Struct, frozen=True):
    """Calm for ``calm_s``, then a fault held for ``hold_s``.

    ``fault`` is the family and ``kind`` what a user would narrow it to, so that
    ``--faults <fault>:<kind>`` asks for the like.
    """

    fault: str
    request: Request
    calm_s: float
    hold_s: float
    kind: str

    @property
    def pick(self) -> int:
        """The number that stands for chance."""
        return self.request.pick

    def operations(self) -> Generator:
        """The operations of this turn, with the waits before them."""
        value = msgspec.to_builtins(self.request)
        return lift(
            [
                sleep(self.calm_s),
                {"f": f"start-{self.fault}", "value": value},
                sleep(self.hold_s),
                {"f": f"stop-{self.fault}"},
            ]
        )


def turns(choices: Sequence[Choice], seed: int, *, interval_s: float = DEFAULT_INTERVAL_S) -> Iterator[Turn]:
    """The turns of a seed, without end; ``interval_s`` is the mean time between starts and stops.

    Raises ConfigError for an interval that is none.
    """
    if interval_s <= 0:
        raise ConfigError(f"--interval {interval_s:g}: give the mean seconds between operations, more than 0")
    return _turns(tuple(choices), seed, interval_s)


def _turns(choices: tuple[Choice, ...], seed: int, interval_s: float) -> Iterator[Turn]:
    places = [place for place, choice in enumerate(choices) for _ in range(choice.family.turns)]
    dealt = [_deal(choice, _entropy(seed, place, _DECK)) for place, choice in enumerate(choices)]
    numbers = count()
    for round_number in count():
        for place in shuffled(places, _entropy(seed, round_number, _ORDER)):
            fault, select = next(dealt[place])
            yield _turn(choices[place], fault, select, op_entropy(seed, next(numbers)), interval_s)
        if not places:
            return


def _entropy(seed: int, number: int, branch: int) -> int:
    return branch_entropy(op_entropy(seed, number), branch)


def _deal(choice: Choice, entropy: int) -> Iterator[tuple[Fault, str | None]]:
    """Cards of a deck that is shuffled whenever it is used up: faults, or for a single one the ways to aim it."""
    weights = choice.family.weights
    deck: list[tuple[Fault, str | None]] = [
        (fault, None) for fault in choice.faults for _ in range(weights.get(fault.name, 1))
    ]
    if len(choice.faults) == 1:
        deck = [(choice.faults[0], select) for select in _selections(choice, choice.faults[0]) or (None,)]
    for shuffles in count():
        yield from shuffled(deck, branch_entropy(entropy, shuffles))


def _selections(choice: Choice, fault: Fault) -> tuple[str, ...]:
    """The ways to aim a fault; none for one that does not aim."""
    return (choice.selections or fault.selections) if fault.selections and not choice.targets else ()


def _turn(choice: Choice, fault: Fault, select: str | None, entropy: int, interval_s: float) -> Turn:
    selections = _selections(choice, fault)
    if select is None and selections:
        select = selections[int(fraction(entropy, 0) * len(selections))]
    hold, calm = (BRIEF_HOLD, BRIEF_CALM) if fault.is_brief else (HOLD, CALM)
    name = (fault.name,) if len(choice.family.faults) > 1 else ()
    aim = (_aim_in_words(choice, select),) if len(fault.selections) > 1 or choice.targets else ()
    return Turn(
        fault=choice.family.name,
        request=Request(fault.name, entropy >> (64 - _PICK_BITS), select or "one", choice.targets),
        calm_s=_seconds(interval_s, calm, fraction(entropy, 1)),
        hold_s=_seconds(interval_s, hold, fraction(entropy, 2)),
        kind=":".join((*name, *aim)),
    )


def _aim_in_words(choice: Choice, select: str | None) -> str:
    return "+".join(choice.targets) or select or ""


def _seconds(interval_s: float, shares: tuple[float, float], part: float) -> float:
    return round(interval_s * (shares[0] + part * (shares[1] - shares[0])), 3)


# Turns on a time axis.


def _within(schedule: Iterable[Turn], time_s: float) -> Iterator[Turn]:
    """As many turns as begin within the time when nothing takes any."""
    at_s = 0.0
    for turn in schedule:
        at_s += turn.calm_s
        if at_s >= time_s:
            return
        yield turn
        at_s += turn.hold_s


def one_at_a_time(schedule: Iterable[Turn], time_s: float) -> Generator:
    """The turns one after another, for so many seconds."""
    return time_limit(time_s, lift([turn.operations() for turn in _within(schedule, time_s)]))


def overlapping(schedule: Iterable[Turn], time_s: float) -> Generator:
    """Each family's turns one after another, all families at the same time, for so many seconds.

    A family has at most one fault active, so that stopping is unambiguous.
    """
    tracks: dict[str, list[Turn]] = {}
    for turn in _within(schedule, time_s * MOST_TRACKS):
        tracks.setdefault(turn.fault, []).append(turn)
    lanes = [lift([turn.operations() for turn in _within(track, time_s)]) for track in tracks.values()]
    return time_limit(time_s, any_of(*lanes))


MOST_TRACKS: Final = 16
"""How many families at most overlap: so many times the time is drawn, to have enough turns for each."""


def timeline(schedule: Iterable[Turn], time_s: float) -> list[tuple[float, float, Turn]]:
    """About when each turn's fault starts and stops (s), for ``one_at_a_time``.

    Taken that a start lasts 1 s and a stop 2 s with their proofs; whom
    "primaries" hits is known only then.
    """
    rows = []
    at_s = 0.0
    for turn in schedule:
        start_s = at_s + turn.calm_s
        if start_s >= time_s:
            break
        end_s = start_s + START_TAKES_S + turn.hold_s
        rows.append((round(start_s, 2), round(min(end_s, time_s), 2), turn))
        at_s = end_s + STOP_TAKES_S
    return rows
