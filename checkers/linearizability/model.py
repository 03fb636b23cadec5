"""What a system should do: sequential models, operations and events, in Porcupine's vocabulary.

A ``Model`` is a handful of pure functions.  ``step(state, input, output)`` says
whether an operation with this input may answer this output in this state, and
which state it leaves.  States, inputs and outputs are any values; they should be
hashable (the engines intern them, so that ``step`` is called once for each pair
of a state and a kind of operation), and where they are not, ``equal`` and
``hash`` of the model tell how to compare states.

An operation that never returned has ``return_`` None: it may take effect at any
time after its call, or never.  Its output is usually ``UNKNOWN_OUTPUT``.  (This
differs from Porcupine, whose histories complete such operations at the end; an
operation with ``return_`` ``math.inf`` behaves like that here too.)

Source of the vocabulary: Porcupine's ``model.go`` and ``checker.go``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias


class Unknown(enum.Enum):
    """Outputs that are not values."""

    OUTPUT = "?"

    def __repr__(self) -> str:
        return "?"


class Failed(enum.Enum):
    """The answer of an operation whose condition did not hold."""

    CONDITION = "condition failed"

    def __repr__(self) -> str:
        return "condition failed"


UNKNOWN_OUTPUT: Final = Unknown.OUTPUT
"""The output of an operation that never returned."""

FAILED: Final = Failed.CONDITION
"""The output of a compare-and-set (or acquire ...) that was answered "no": an observation, and no change."""


class Operation(NamedTuple):
    """A call and its return, as Porcupine's Operation.

    ``call`` and ``return_`` are times in any unit, or places in a history; an
    interval is closed, so that a call at the time of another's return is
    concurrent with it.  ``return_`` None: it never returned.
    """

    client_id: int
    input: Any
    call: float
    output: Any
    return_: float | None


class Event(NamedTuple):
    """A call or a return; ``id`` joins the two.  ``value`` is the input of a call, the output of a return."""

    client_id: int
    kind: Literal["call", "return"]
    value: Any
    id: int


class CheckResult(enum.StrEnum):
    """Porcupine's three answers."""

    OK = "Ok"
    ILLEGAL = "Illegal"
    UNKNOWN = "Unknown"


class Keep(enum.Enum):
    """What a guarded assignment does that assigns nothing."""

    STATE = "keep"


KEEP: Final = Keep.STATE


class Guarded(NamedTuple):
    """An operation as a guarded assignment: if ``test`` holds of the state, ``assign`` it.

    ``test`` "any" always holds, "is" and "is-not" compare the state with
    ``operand``.  ``assign`` KEEP leaves the state as it is.  Reads ("is", v,
    KEEP), writes ("any", None, v), compare-and-set ("is", old, new) and its
    failure ("is-not", old, KEEP) are all of this form.
    """

    test: Literal["any", "is", "is-not"]
    operand: Any
    assign: Any


StepResult: TypeAlias = tuple[bool, Any]
Partition: TypeAlias = Callable[[Sequence[Operation]], list[list[Operation]]]


def _repr_operation(input: Any, output: Any) -> str:
    return f"{input!r} -> {output!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A sequential specification.

    ``init()`` is the first state, ``step(state, input, output)`` answers (legal,
    next state) and must not change its arguments.  ``partition`` cuts a history
    into independent ones (each is checked alone, from ``init()``).  ``equal`` and
    ``hash`` default to Python's own.  The ``describe`` functions are for people.

    The optional hints make the engines faster and never change a verdict if they
    are true.  ``read_only(input, output)`` promises that such an operation
    changes *no* state (that it leaves one state alone is not enough: writing the
    value a register happens to hold matters later).  ``guarded(input, output)``
    gives the operation as a guarded assignment of the whole state, None where it
    is not one; a history of nothing else can take the near-linear engine.
    ``can_reach(state, input, output)``, asked of operations that only read, may
    answer False where nothing that happens from ``state`` on can make this one
    legal, resets apart (what is appended to cannot become shorter, but by a put).
    ``resets_to(input)`` is the state that a reset leaves wherever it is legal, and
    KEEP for others.  ``guide(history)`` guesses at the order of operations: a
    number for each, those with lower ones are tried first.  ``places(history)``
    tells where operations belong if their answers say so: a sortable place, or
    None; a history that is linearizable in that order needs no search.
    """

    name: str = "model"
    init: Callable[[], Any]
    step: Callable[[Any, Any, Any], StepResult]
    partition: Partition | None = None
    equal: Callable[[Any, Any], bool] | None = None
    hash: Callable[[Any], int] | None = None
    describe_operation: Callable[[Any, Any], str] = _repr_operation
    describe_state: Callable[[Any], str] = repr
    read_only: Callable[[Any, Any], bool] | None = None
    guarded: Callable[[Any, Any], Guarded | None] | None = None
    can_reach: Callable[[Any, Any, Any], bool] | None = None
    resets_to: Callable[[Any], Any] | None = None
    guide: Callable[[Sequence[Operation]], list[int]] | None = None
    places: Callable[[Sequence[Operation]], Sequence[Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NondeterministicModel:
    """A specification whose operations may leave one of several states.

    ``init()`` lists the possible first states; ``step(state, input, output)``
    lists the possible next states, empty where the operation is illegal.
    ``to_model`` makes the ordinary model over sets of states.
    """

    name: str = "model"
    init: Callable[[], Iterable[Any]]
    step: Callable[[Any, Any, Any], Iterable[Any]]
    partition: Partition | None = None
    describe_operation: Callable[[Any, Any], str] = _repr_operation
    describe_state: Callable[[Any], str] = repr
    read_only: Callable[[Any, Any], bool] | None = None

    def to_model(self) -> Model:
        """Return the power-set model: a state is the frozen set of states the system may be in (they must be hashable).

        ``read_only`` is passed on although a read may narrow that set: what is
        legal from a set is legal from any larger one, so an engine that takes a
        read early, where it narrows nothing, loses nothing.
        """

        def init() -> frozenset[Any]:
            return frozenset(self.init())

        def step(states: frozenset[Any], input: Any, output: Any) -> tuple[bool, frozenset[Any]]:
            after = frozenset(t for s in states for t in self.step(s, input, output))
            return bool(after), after

        def describe_state(states: frozenset[Any]) -> str:
            shown = sorted(map(self.describe_state, states))
            return shown[0] if len(shown) == 1 else "one of {" + ", ".join(shown) + "}"

        return Model(
            name=self.name,
            init=init,
            step=step,
            partition=self.partition,
            describe_operation=self.describe_operation,
            describe_state=describe_state,
            read_only=self.read_only,
        )


def partition_by(key: Callable[[Any], Hashable]) -> Partition:
    """Cut a history by ``key(input)``: for systems of independent objects (P-compositionality)."""

    def partition(history: Sequence[Operation]) -> list[list[Operation]]:
        parts: dict[Hashable, list[Operation]] = {}
        for operation in history:
            parts.setdefault(key(operation.input), []).append(operation)
        return list(parts.values())

    return partition


def operations_of_events(events: Iterable[Event]) -> list[Operation]:
    """Pair events into operations; times are places in the sequence; calls without a return stay open.

    Raises ValueError for a return without its call and for an id called twice.
    """
    calls: dict[int, int] = {}
    operations: list[Operation] = []
    for place, event in enumerate(events):
        if event.kind == "call":
            if event.id in calls:
                raise ValueError(f"event {place}: id {event.id} is called a second time; ids must be unique")
            calls[event.id] = len(operations)
            operations.append(Operation(event.client_id, event.value, place, UNKNOWN_OUTPUT, None))
        else:
            if event.id not in calls or operations[calls[event.id]].return_ is not None:
                raise ValueError(f"event {place}: return of id {event.id}, which has no open call")
            at = calls[event.id]
            operations[at] = operations[at]._replace(output=event.value, return_=place)
    return operations
