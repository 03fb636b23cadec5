"""Histories as integers: what the search engines work on.

An operation is its place in the history given; operations with equal input and
output form a *class*; states are interned as they appear.  ``Steps`` answers
``step(state, class)`` in integers, asking the model once for each pair at most
(the engines keep the table).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

from splitvote.checkers.linearizability.model import KEEP, Guarded, Model, Operation

REFUSED = -1
"""The next state of an operation that the model does not allow."""

ANY, IS, IS_NOT = 0, 1, 2
TEST_CODES = {"any": ANY, "is": IS, "is-not": IS_NOT}


class Steps(Protocol):
    """A model's ``step`` over interned states and classes."""

    @property
    def initial(self) -> int:
        """The first state."""
        ...

    @property
    def read_only(self) -> Sequence[bool]:
        """Per class: changes no state."""
        ...

    def step(self, state: int, cls: int) -> int:
        """Return the next state, or REFUSED."""
        ...

    def state(self, number: int) -> Any:
        """Return the model's state with this number."""
        ...


@dataclass(frozen=True, slots=True)
class Outlook:
    """What cannot come true any more: the model's ``can_reach`` over interned states and classes.

    ``resets`` are the operations that lead to one state whatever was before, and
    ``reset_states`` that state, by operation (-1: not a reset).
    """

    can_reach: Callable[[int, int], bool]
    resets: list[int]
    reset_states: list[int]


@dataclass(frozen=True, slots=True)
class Problem:
    """One history, of one partition, to be decided.

    ``events`` is the real-time order: an operation's number where it is called,
    its complement (``~number``) where it returns.  Operations without a return
    are ``optional``; those that only read are left out of ``events``, since an
    answer that nobody saw constrains nothing.  ``classes`` is per operation.
    ``outlook`` is there where the model has ``can_reach``, ``priority`` where it
    has a ``guide``.
    """

    model: Model
    operations: Sequence[Operation]
    events: list[int]
    optional: list[bool]
    classes: list[int]
    steps: Steps
    outlook: Outlook | None = None
    priority: list[int] | None = None

    def until(self, place: int) -> Problem:
        """Return the history as it looked after the event at ``place``: what has not returned may never do so."""
        returned = {~event for event in self.events[: place + 1] if event < 0}
        read_only = self.steps.read_only
        events = [
            event
            for event in self.events[: place + 1]
            if event < 0 or event in returned or not read_only[self.classes[event]]
        ]
        optional = [number not in returned for number in range(len(self.optional))]
        return replace(self, events=events, optional=optional)


class ModelSteps:
    """Steps of any model, its states interned by equality."""

    def __init__(self, model: Model, kinds: Sequence[tuple[Any, Any]]) -> None:
        self._model = model
        self._kinds = kinds
        self._states: list[Any] = []
        self._ids: dict[Hashable, int] = {}
        self._key = _state_key(model)
        read_only = model.read_only
        self.read_only = [read_only is not None and bool(read_only(*kind)) for kind in kinds]
        self.initial = self._intern(model.init())

    def step(self, state: int, cls: int) -> int:
        """Ask the model."""
        legal, after = self._model.step(self._states[state], *self._kinds[cls])
        return self._intern(after) if legal else REFUSED

    def can_reach(self, state: int, cls: int) -> bool:
        """Ask the model; one without the hint says that it may."""
        can_reach = self._model.can_reach
        return can_reach is None or bool(can_reach(self._states[state], *self._kinds[cls]))

    def resets(self) -> list[int]:
        """Return, by class, the state that a reset leaves, and -1 for classes that are none."""
        resets_to = self._model.resets_to or (lambda _: KEEP)
        states = [resets_to(asked) for asked, _ in self._kinds]
        return [-1 if state is KEEP else self._intern(state) for state in states]

    def state(self, number: int) -> Any:
        """Return the model's state with this number."""
        return self._states[number]

    def _intern(self, state: Any) -> int:
        try:
            number = self._ids.setdefault(self._key(state), len(self._states))
        except TypeError:
            raise TypeError(
                f"model {self._model.name!r}: state {state!r} is not hashable; "
                f"use tuples and frozensets, or give the model `hash` and `equal`"
            ) from None
        if number == len(self._states):
            self._states.append(state)
        return number


class GuardedSteps:
    """Steps of a model all of whose operations are guarded assignments.

    ``tests``, ``operands`` and ``assigns`` are per class: a code of TEST_CODES,
    the state compared with, and the state assigned (-1: none).
    """

    def __init__(self, model: Model, guards: Sequence[Guarded]) -> None:
        ids: dict[Any, int] = {model.init(): 0}
        self.initial = 0
        self.tests: list[int] = []
        self.operands: list[int] = []
        self.assigns: list[int] = []
        self.read_only: list[bool] = []
        for name, value, assigned in guards:
            test = TEST_CODES[name]
            operand = ids.setdefault(value, len(ids)) if test else 0
            assign = -1 if assigned is KEEP else ids.setdefault(assigned, len(ids))
            self.tests.append(test)
            self.operands.append(operand)
            self.assigns.append(assign)
            self.read_only.append(assign < 0 or (test == IS and assign == operand))
        self._states: Sequence[Any] = list(ids)
        self.size = len(ids)

    @classmethod
    def of_codes(
        cls, tests: list[int], operands: list[int], assigns: list[int], initial: int, size: int
    ) -> GuardedSteps:
        """Make steps of values that are numbers already, from 0 to ``size`` - 1."""
        steps = cls.__new__(cls)
        steps.tests, steps.operands, steps.assigns = tests, operands, assigns
        steps.initial, steps.size = initial, size
        steps.read_only = [
            assign < 0 or (test == IS and assign == operand)
            for test, operand, assign in zip(tests, operands, assigns, strict=True)
        ]
        steps._states = range(size)
        return steps

    @property
    def is_exotic(self) -> bool:
        """Whether some class assigns on inequality: the engines then take no short cuts."""
        return any(test == IS_NOT and assign >= 0 for test, assign in zip(self.tests, self.assigns, strict=True))

    def step(self, state: int, cls: int) -> int:
        """Compare and assign."""
        test = self.tests[cls]
        if test != ANY and (test == IS) != (state == self.operands[cls]):
            return REFUSED
        assign = self.assigns[cls]
        return state if assign < 0 else assign

    def state(self, number: int) -> Any:
        """Return the model's state with this number."""
        return self._states[number]


def encode(model: Model, operations: Sequence[Operation]) -> Problem:
    """Number a history of one partition; operations may come in any order.

    Raises ValueError for an operation that returns before it is called.
    """
    kinds, classes = _classes_of(operations)
    steps: Steps
    guards = _guards_of(model, kinds)
    steps = ModelSteps(model, kinds) if guards is None else GuardedSteps(model, guards)
    optional = [operation[4] is None for operation in operations]
    events = _events_of(operations, classes, steps.read_only)
    outlook = _outlook_of(steps, classes) if isinstance(steps, ModelSteps) and model.can_reach is not None else None
    priority = model.guide(operations) if model.guide is not None and isinstance(steps, ModelSteps) else None
    return Problem(model, operations, events, optional, classes, steps, outlook, priority)


def _outlook_of(steps: ModelSteps, classes: Sequence[int]) -> Outlook:
    by_class = steps.resets()
    reset_states = [by_class[cls] for cls in classes]
    return Outlook(steps.can_reach, [number for number, state in enumerate(reset_states) if state >= 0], reset_states)


def _guards_of(model: Model, kinds: Sequence[tuple[Any, Any]]) -> list[Guarded] | None:
    """Return every class as a guarded assignment, None unless all are."""
    if model.guarded is None:
        return None
    guards = []
    for kind in kinds:
        guard = model.guarded(*kind)
        if guard is None:
            return None
        guards.append(guard)
    return guards


def _classes_of(operations: Sequence[Operation]) -> tuple[list[tuple[Any, Any]], list[int]]:
    numbers: defaultdict[tuple[Any, Any], int] = defaultdict(count().__next__)
    try:
        classes = [numbers[operation[1], operation[3]] for operation in operations]
    except TypeError:  # an unhashable input or output: every operation is a class of its own
        return [(operation[1], operation[3]) for operation in operations], list(range(len(operations)))
    return list(numbers), classes


def _events_of(operations: Sequence[Operation], classes: list[int], read_only: Sequence[bool]) -> list[int]:
    """Sort calls and returns by time; at equal times calls go first, for intervals are closed."""
    total = len(operations)
    times: list[Any] = [operation[2] for operation in operations]
    returns = [operation[4] for operation in operations]
    places, ends = list(range(total)), list(range(total, 2 * total))
    if None in returns:
        places = [place for place in places if returns[place] is not None or not read_only[classes[place]]]
        ends = [place for place in ends if returns[place - total] is not None]
    for end in ends:
        if returns[end - total] < times[end - total]:
            raise ValueError(f"operation {operations[end - total]} returns before it is called")
    times += returns
    order = sorted(places + ends, key=times.__getitem__)
    return [place if place < total else total - 1 - place for place in order]


class _StateKey:
    """A state compared by the model's own ``equal`` and ``hash``."""

    __slots__ = ("_equal", "_hash", "_state")

    def __init__(self, state: Any, model: Model) -> None:
        self._state = state
        self._equal = model.equal or (lambda a, b: a == b)
        self._hash = 0 if model.hash is None else model.hash(state)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _StateKey) and self._equal(self._state, other._state)


def _state_key(model: Model) -> Any:
    if model.equal is None and model.hash is None:
        return lambda state: state
    return lambda state: _StateKey(state, model)
