"""The windowed just-in-time search, in pure Python: the reference for every other engine.

Theory.  Walk through the events of a history in real-time order.  Nothing has
to be decided at a call; at the *return* of an operation it must have taken
effect, so if it has not, choose one open operation to take effect now, and
another, until the returning one is among them.  A configuration is therefore
(place in the events, state, which of the open operations have taken effect):
the mask covers the *window* of open operations only, in slots that are reused
after a return, and not the whole history as in the search of Wing & Gong.
Visiting each configuration once makes the search finite and, since windows are
as narrow as the concurrency, fast.  (Lowe, "Testing for linearizability",
2017, calls the lazy scheme just-in-time; the cache of configurations is that
of Wing & Gong 1993 as Lowe extended it.)

What keeps the number of configurations small, and why it loses no linearization:

*Reads at once.*  An operation that changes *no* state is taken as soon as it is
open and legal: moving it to the front of the present state disturbs nobody.
That an operation leaves *this* state alone is not enough: writing the value
that a register happens to hold may be needed later.

*One of a class.*  Of open operations with equal input and output only the one
that must return first is tried: the others can take its place later.

*Optional operations* (that never returned) stay open to the end, in a mask of
their own.  A configuration that has used a subset of them is as good as one
that used more, so only subsets are explored again.  An optional operation is
tried only where it matters: where it changes the state and some other operation
is then newly legal or leads elsewhere; and the operation chosen next must be
one of those (else the optional one could be left out).  A returning operation
is never optional, so one always follows in the same place.

*No dead ends.*  Where the model says what cannot come true any more
(``Model.can_reach``), an operation is not taken if an open read, or the next one
to be called, could then never be legal, unless a reset that is still to come may
lead there.

The order of trying is: what lets the returning operation follow, by deadline;
the rest; the optional ones.  Or it is the ``priority`` given (the model's guess,
or the order that another engine found).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from splitvote.checkers.linearizability.model import CheckResult
from splitvote.checkers.linearizability.problem import IS, IS_NOT, REFUSED, GuardedSteps, Problem
from splitvote.harness.result import Budget, BudgetExceeded

CHECK_EVERY: Final = 256
"""Nodes between two looks at the budget."""

ELSEWHERE: Final = -1
"""Stands for every state but the present one."""

Trail = tuple["Trail", int] | None
"""A linked list of the operations chosen: (earlier trail, operation)."""


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What a search found.

    ``furthest`` is the place in ``Problem.events`` of the first return that no
    order of operations could pass (the number of events where all were passed);
    ``choices`` are the operations chosen on the way there, eager reads left out
    (``witness.replay`` puts them in).  ``reason`` explains UNKNOWN.
    """

    result: CheckResult
    nodes: int
    furthest: int
    choices: list[int]
    reason: str | None = None


class _Row(dict[int, int]):
    """Next states of one state by class, asked for once."""

    __slots__ = ("_state", "_step")

    def __init__(self, step: Callable[[int, int], int], state: int) -> None:
        super().__init__()
        self._step = step
        self._state = state

    def __missing__(self, cls: int) -> int:
        after = self[cls] = self._step(self._state, cls)
        return after


class Table(dict[int, _Row]):
    """The memoised step: ``table[state][class]`` is the next state or REFUSED."""

    __slots__ = ("_step",)

    def __init__(self, step: Callable[[int, int], int]) -> None:
        super().__init__()
        self._step = step

    def __missing__(self, state: int) -> _Row:
        row = self[state] = _Row(self._step, state)
        return row


Step = tuple[int, int, int, list[int], int]
"""Where the walk has something to do: (place among the events, the operation's bit, class, open, called).

At the call of a read that will return, ``class`` is its class.  At a return it
is -1; ``open`` lists the operations that are open there and will return, the
earliest deadline first, and ``called`` counts the optional ones called before.
"""


class Layout:
    """A problem's events laid out for the walk, as far as the walk has come.

    ``bits`` has one bit an operation: of its slot in the window, or of its place
    among the ``optionals``.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._deadlines = {~event: place for place, event in enumerate(problem.events) if event < 0}
        self._free: list[int] = []
        self._slots = 0
        self._window: list[int] = []
        self._due: list[int] = []
        self._laid = 0
        self.bits = [0] * len(problem.optional)
        self.optionals: list[int] = []
        self.walk: list[Step] = []

    def extend(self, count: int = 48) -> bool:
        """Lay out ``count`` events more; say whether there were any."""
        problem, bits, walk, window, due = self._problem, self.bits, self.walk, self._window, self._due
        optional, classes, read_only, free = problem.optional, problem.classes, problem.steps.read_only, self._free
        start, self._laid = self._laid, min(self._laid + count, len(problem.events))
        for place in range(start, self._laid):
            event = problem.events[place]
            if event < 0:
                walk.append((place, bits[~event], -1, window[:], len(self.optionals)))
                del window[0], due[0]  # the one that returns now has the earliest deadline
                free.append(bits[~event])
            elif optional[event]:
                bits[event] = 1 << len(self.optionals)
                self.optionals.append(event)
            else:
                if not free:
                    free.append(1 << self._slots)
                    self._slots += 1
                bit = bits[event] = free.pop()
                at = bisect_left(due, self._deadlines[event])
                due.insert(at, self._deadlines[event])
                window.insert(at, event)
                if read_only[classes[event]]:
                    walk.append((place, bit, classes[event], [], 0))
        return start < self._laid


def search(
    problem: Problem,
    budget: Budget | None = None,
    *,
    priority: Sequence[int] | None = None,
    on_configuration: Callable[[int, int, Trail], None] | None = None,
) -> SearchOutcome:
    """Decide a problem; UNKNOWN (with the furthest place reached) when the budget is spent.

    ``priority`` is per operation, lower is tried first (instead of the problem's
    own).  ``on_configuration`` is told of each new (place, state, trail), for
    those who want to see more of the search than its end.
    """
    return _Search(problem, budget or Budget(), priority or problem.priority, on_configuration).run()


_Frame = tuple[int, int, int, int, int, Trail, list[int]]
"""A configuration (step of the walk, state, taken, spent), the state before an optional operation just taken there,
the trail that led to it, and the operations still to be tried from it, the best last."""


class _Search:
    def __init__(
        self,
        problem: Problem,
        budget: Budget,
        priority: Sequence[int] | None,
        on_configuration: Callable[[int, int, Trail], None] | None,
    ) -> None:
        self.problem = problem
        self.classes = problem.classes
        self.read_only = problem.steps.read_only
        self.layout = Layout(problem)
        self.table = Table(problem.steps.step)
        steps = problem.steps
        self.guards = steps if isinstance(steps, GuardedSteps) and not steps.is_exotic else None
        self.budget = budget
        self.outlook = None if problem.outlook is None else _Outlook(problem, self.layout)
        self.priority = priority
        self.on_configuration = on_configuration
        self.nodes = 0
        self.seen: dict[tuple[int, int, int], list[int]] = {}

    def run(self) -> SearchOutcome:
        """Depth first: a frame is a configuration and the operations still to be tried from it."""
        problem, walk, bits, table = self.problem, self.layout.walk, self.layout.bits, self.table
        classes, optional = self.classes, problem.optional
        is_lazy = self.priority is not None or self.outlook is not None  # else candidates were looked at
        furthest, best = -1, None
        trail: Trail = None
        state, spent, before = problem.steps.initial, 0, -1
        at, taken = self.advance(0, state, 0)
        frames: list[_Frame] = []
        while True:
            if at > furthest:
                furthest, best = at, trail
                if at == len(walk):
                    return SearchOutcome(CheckResult.OK, self.nodes, len(problem.events), unroll(best))
            if self.is_new(at, state, taken, spent):
                self.nodes += 1
                if self.nodes % CHECK_EVERY == 0 and (reason := self.spent_reason()) is not None:
                    return SearchOutcome(CheckResult.UNKNOWN, self.nodes, walk[furthest][0], unroll(best), reason)
                if self.on_configuration is not None:
                    self.on_configuration(walk[at][0], state, trail)
                choices = self.candidates(at, state, taken, spent, before)
                frames.append((at, state, taken, spent, before, trail, choices))
            while frames and not frames[-1][6]:
                frames.pop()
            operation = None if not frames else self.next_choice(frames) if is_lazy else frames[-1][6].pop()
            if operation is None:
                return SearchOutcome(CheckResult.ILLEGAL, self.nodes, walk[furthest][0], unroll(best))
            here, state, taken, spent, _, trail, _ = frames[-1]
            trail = (trail, operation)
            after = table[state][classes[operation]]
            before = -1
            if optional[operation]:
                spent |= bits[operation]
                before = state
            else:
                taken |= bits[operation]
            if after != state:
                state = after
                reads = self.reads(here, state, taken)
                if reads:
                    taken |= reads
                    before = -1
            at, taken = self.advance(here, state, taken)
            if at != here:
                before = -1

    def spent_reason(self) -> str | None:
        """Count in the budget; say why it is spent, if it is."""
        try:
            self.budget.check(CHECK_EVERY)
        except BudgetExceeded as exceeded:
            return str(exceeded)
        return None

    def next_choice(self, frames: list[_Frame]) -> int | None:
        """Return the next operation worth taking of the deepest frame that has one, dropping those that have none."""
        while frames:
            choices = frames[-1][6]
            while choices:
                operation = choices.pop()
                if self.is_worth_taking(operation, frames[-1]):
                    return operation
            frames.pop()
        return None

    def is_worth_taking(self, operation: int, frame: _Frame) -> bool:
        """Whether an operation is legal, needs the optional one just taken, and is no dead end."""
        at, state, taken, spent, before, _, _ = frame
        cls = self.classes[operation]
        after = self.table[state][cls]
        if after < 0 or (before >= 0 and self.table[before][cls] == after):
            return False
        return self.outlook is None or not self.outlook.is_dead_end(at, after, taken, spent, operation)

    def advance(self, at: int, state: int, taken: int) -> tuple[int, int]:
        """Walk on to the next return of an operation that has not taken effect, taking new reads on the way."""
        walk, row = self.layout.walk, self.table[state]
        while at < len(walk) or self.layout.extend():
            for here in range(at, len(walk)):
                _, bit, cls, _, _ = walk[here]
                if cls < 0:
                    if not taken & bit:
                        return here, taken
                    taken ^= bit
                elif row[cls] == state:
                    taken |= bit
            at = len(walk)
        return at, taken

    def reads(self, at: int, state: int, taken: int) -> int:
        """Return the bits of the open reads that are legal in a state just entered."""
        row, bits, classes, read_only = self.table[state], self.layout.bits, self.classes, self.read_only
        found = 0
        for operation in self.layout.walk[at][3]:
            cls = classes[operation]
            if read_only[cls] and not taken & bits[operation] and row[cls] == state:
                found |= bits[operation]
        return found

    def is_new(self, at: int, state: int, taken: int, spent: int) -> bool:
        """Note the configuration, unless one as good was here (one that spent a subset of the optional operations)."""
        key = (at, state, taken)
        visits = self.seen.get(key)
        if visits is None:
            self.seen[key] = [spent]
            return True
        for earlier in visits:
            if not earlier & ~spent:
                return False
        visits.append(spent)
        return True

    def candidates(self, at: int, state: int, taken: int, spent: int, before: int) -> list[int]:
        """Return the operations worth taking here, the best last.

        ``before`` is the state before an optional operation that has just been
        taken in this place, -1 where none was: what does the same from there
        does not need that operation.
        """
        table, classes, bits = self.table, self.classes, self.layout.bits
        place, _, _, window, called = self.layout.walk[at]
        row = table[state]
        skipped = table[before] if before >= 0 else None
        wanted = classes[~self.problem.events[place]]
        live = [operation for operation in window if not taken & bits[operation]]
        tried: set[int] = set()
        first: list[int] = []
        rest: list[int] = []
        for operation in live:
            cls = classes[operation]
            if cls in tried:
                continue
            tried.add(cls)
            if self.priority is not None:  # it is looked at when its turn comes
                rest.append(operation)
                continue
            after = row[cls]
            if after < 0 or (skipped is not None and skipped[cls] == after):
                continue
            (first if cls == wanted or table[after][wanted] >= 0 else rest).append(operation)
        if called:
            rest += self.useful_optionals(state, live, called, spent, tried, skipped)
        found = first + rest
        if self.priority is not None:
            found.sort(key=self.priority.__getitem__)
        found.reverse()
        return found

    def useful_optionals(
        self, state: int, live: list[int], called: int, spent: int, tried: set[int], skipped: dict[int, int] | None
    ) -> list[int]:
        """Return the optional operations after which another operation does what it could not do before.

        ``tried`` are the classes of the ``live`` operations.
        """
        classes, bits, row = self.classes, self.layout.bits, self.table[state]
        unspent = [operation for operation in self.layout.optionals[:called] if not spent & bits[operation]]
        firsts: dict[int, int] = {}
        for operation in unspent:
            firsts.setdefault(classes[operation], operation)
        asked = self.asked_states(state, tried, firsts)
        found = []
        for cls, operation in firsts.items():
            after = row[cls]
            if cls in tried or after < 0 or after == state or (skipped is not None and skipped[cls] == after):
                continue
            if asked is None:
                useful = self.is_useful(operation, state, after, live, unspent)
            else:
                useful = after in asked or ELSEWHERE in asked
            if useful:
                found.append(operation)
        return found

    def is_useful(self, operation: int, state: int, after: int, live: list[int], unspent: list[int]) -> bool:
        """Whether an operation that leads from ``state`` to ``after`` changes what another one does."""
        classes, row, then = self.classes, self.table[state], self.table[after]
        return any(then[classes[other]] not in (REFUSED, row[classes[other]]) for other in live) or any(
            then[classes[other]] not in (REFUSED, after, row[classes[other]]) for other in unspent if other != operation
        )

    def asked_states(self, state: int, live: Iterable[int], unspent: Iterable[int]) -> set[int] | None:
        """Return the states that operations of these classes ask for, with ELSEWHERE if one asks for any but this one.

        The short cut of ``is_useful`` for guarded assignments (None for others):
        an operation does in another state what it could not do here only if it
        asks for that state, or asks for a state other than this.
        """
        guards = self.guards
        if guards is None:
            return None
        tests, operands = guards.tests, guards.operands
        asked = {operands[cls] for cls in live if tests[cls] == IS}
        for cls in live:
            if tests[cls] == IS_NOT and operands[cls] == state:
                asked.add(ELSEWHERE)
        asked.update([operands[cls] for cls in unspent if tests[cls] == IS])
        return asked


class _Outlook:
    """Tells which states are dead ends, given what is still to come."""

    def __init__(self, problem: Problem, layout: Layout) -> None:
        assert problem.outlook is not None
        self.problem = problem
        self.layout = layout
        self.can_reach = Table(problem.outlook.can_reach)
        self.calls = {event: place for place, event in enumerate(problem.events) if event >= 0}
        self.returns = {~event: place for place, event in enumerate(problem.events) if event < 0}
        self.next_read = self._next_reads()
        self.relevant: dict[int, list[int]] = {}

    def _next_reads(self) -> list[int]:
        """Return, for each place, the class of the next read called after it that will return, -1 for none."""
        problem = self.problem
        upcoming, found = -1, [-1] * len(problem.events)
        for place in range(len(problem.events) - 1, -1, -1):
            found[place] = upcoming
            event = problem.events[place]
            if event >= 0 and not problem.optional[event] and problem.steps.read_only[problem.classes[event]]:
                upcoming = problem.classes[event]
        return found

    def is_dead_end(self, at: int, state: int, taken: int, spent: int, operation: int) -> bool:
        """Whether after ``operation``, which leads to ``state``, an open read or the next one could never be legal."""
        classes, read_only, reach = self.problem.classes, self.problem.steps.read_only, self.can_reach[state]
        place, _, _, window, _ = self.layout.walk[at]
        upcoming = self.next_read[place]
        if (
            upcoming >= 0
            and not reach[upcoming]
            and not self.is_reset_to_come(place, upcoming, taken, spent, operation)
        ):
            return True
        bits = self.layout.bits
        return any(
            other != operation
            and read_only[classes[other]]
            and not taken & bits[other]
            and not reach[classes[other]]
            and not self.is_reset_to_come(place, classes[other], taken, spent, operation)
            for other in window
        )

    def is_reset_to_come(self, place: int, cls: int, taken: int, spent: int, operation: int) -> bool:
        """Whether a reset after which the class may become legal has not taken effect yet."""
        relevant = self.relevant.get(cls)
        if relevant is None:
            outlook = self.problem.outlook
            assert outlook is not None
            relevant = self.relevant[cls] = [
                reset for reset in outlook.resets if self.can_reach[outlook.reset_states[reset]][cls]
            ]
        bits, optional = self.layout.bits, self.problem.optional
        for reset in relevant:
            if reset == operation or (optional[reset] and self.calls.get(reset) is None):
                continue
            if self.calls[reset] > place:
                return True
            if optional[reset]:
                if not spent & bits[reset]:
                    return True
            elif self.returns[reset] >= place and not taken & bits[reset]:
                return True
        return False


def unroll(trail: Trail) -> list[int]:
    """Return a trail's operations, the first chosen first."""
    operations = []
    while trail is not None:
        trail, operation = trail
        operations.append(operation)
    operations.reverse()
    return operations
