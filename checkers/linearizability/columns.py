"""Register histories as NumPy columns: from numbered problems, or from arrays of a million operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.linearizability.model import Model
from splitvote.checkers.linearizability.problem import GuardedSteps, Problem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

NEVER: Final = 1 << 60
"""The return of an operation that has none."""

READ, WRITE, CAS = 0, 1, 2
"""The codes of ``from_register``."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A history of guarded assignments, one row an operation.

    Values are numbered from 0 to ``values`` - 1, ``initial`` is the first state.
    ``test`` 0 asks nothing, 1 asks that the state is ``operand``, 2 that it is
    not; ``assign`` -1 assigns nothing.  ``call`` and ``return_`` are
    non-negative times, calls going first where they are equal; ``return_`` is
    NEVER where there is none.
    """

    test: npt.NDArray[np.int8]
    operand: Ints
    assign: Ints
    call: Ints
    return_: Ints
    values: int
    initial: int

    def until(self, time: int) -> Columns:
        """Return the history as it looked at a time: later calls are unknown, later returns have not come."""
        import numpy as np

        return replace(
            self,
            test=np.where(self.call > time, 0, self.test),
            assign=np.where(self.call > time, -1, self.assign),
            return_=np.where(self.return_ > time, NEVER, self.return_),
        )


def from_register(f: Ints, a: Ints, b: Ints, output: Ints, call: Ints, return_: Ints, *, initial: int = -1) -> Columns:
    """Make columns of a register's operations, given as integer arrays.

    ``f`` is READ, WRITE or CAS.  A read's answer is in ``output``; a write's
    value is ``a``; a cas goes from ``a`` to ``b``, its ``output`` 1 if it took
    effect and 0 if the comparison failed.  ``return_`` is negative where the
    operation never returned (its output is then ignored).  Times are not
    negative.
    """
    import numpy as np

    returned = return_ >= 0
    failed = (f == CAS) & returned & (output != 1)
    operand = np.where(f == READ, output, a)
    assign = np.where(f == WRITE, a, b)
    asks, assigns = (f != WRITE) & ((f != READ) | returned), (f != READ) & ~failed
    operand, assign, number_of_initial, values = _numbered(operand, assign, asks, assigns, initial)
    return Columns(
        test=np.where(asks, np.where(failed, 2, 1), 0).astype(np.int8),
        operand=operand,
        assign=np.where(assigns, assign, -1),
        call=np.asarray(call, np.int64),
        return_=np.where(returned, return_, NEVER),
        values=values,
        initial=number_of_initial,
    )


def _numbered(
    operand: Ints, assign: Ints, asks: npt.NDArray[np.bool_], assigns: npt.NDArray[np.bool_], initial: int
) -> tuple[Ints, Ints, int, int]:
    """Number the values from 0: by an offset where they lie close together, else by sorting."""
    import numpy as np

    operand, assign = np.where(asks, operand, initial), np.where(assigns, assign, initial)
    low = int(min(operand.min(initial=initial), assign.min(initial=initial)))
    high = int(max(operand.max(initial=initial), assign.max(initial=initial)))
    if high - low <= 8 * len(operand) + 1024:
        return operand - low, assign - low, initial - low, high - low + 1
    known = np.unique(np.concatenate([operand, assign, [initial]]))
    return (
        np.searchsorted(known, operand),
        np.searchsorted(known, assign),
        int(np.searchsorted(known, initial)),
        len(known),
    )


def from_problem(problem: Problem) -> Columns:
    """Make columns of a problem whose steps are guarded assignments; times are places among its events."""
    import numpy as np

    steps = problem.steps
    assert isinstance(steps, GuardedSteps)
    classes = np.array(problem.classes, np.int64)
    events = np.array(problem.events, np.int64)
    call = np.zeros(len(classes), np.int64)
    return_ = np.full(len(classes), NEVER, np.int64)
    is_call = events >= 0
    call[events[is_call]] = np.flatnonzero(is_call)
    return_[~events[~is_call]] = np.flatnonzero(~is_call)
    return Columns(
        test=np.array(steps.tests, np.int8)[classes],
        operand=np.array(steps.operands, np.int64)[classes],
        assign=np.array(steps.assigns, np.int64)[classes],
        call=call,
        return_=return_,
        values=steps.size,
        initial=steps.initial,
    )


def to_problem(columns: Columns, rows: Ints, due: Ints | None = None) -> Problem:
    """Make a problem of some rows (operation i is row ``rows[i]``), for the search.

    ``due`` gives rows that never returned a time by which they must have taken
    effect (NEVER for none); it acts as a return just before others of that time.
    """
    import numpy as np

    test, operand, assign = columns.test[rows].astype(np.int64), columns.operand[rows], columns.assign[rows]
    codes = (test * (columns.values + 1) + operand) * (columns.values + 1) + assign + 1
    _, first, classes = np.unique(codes, return_index=True, return_inverse=True)
    steps = GuardedSteps.of_codes(
        test[first].tolist(), operand[first].tolist(), assign[first].tolist(), columns.initial, columns.values
    )
    call, return_ = columns.call[rows], columns.return_[rows]
    virtual = np.full(len(rows), NEVER, np.int64) if due is None else due[rows]
    ends = np.flatnonzero((return_ < NEVER) | (virtual < NEVER))
    is_virtual = return_[ends] == NEVER
    end = np.where(is_virtual, 3 * np.minimum(virtual[ends], NEVER) + 1, 3 * return_[ends] + 2)
    optional = np.ones(len(rows), bool)
    optional[ends] = False
    calls = np.flatnonzero(~optional | ~np.array(steps.read_only)[classes])
    order = np.argsort(np.concatenate([3 * call[calls], end]), kind="stable")
    events = np.concatenate([calls, ~ends])[order]
    return Problem(_COLUMNS_MODEL, (), events.tolist(), optional.tolist(), classes.tolist(), steps)


def _no_step(state: Any, asked: Any, answer: Any) -> tuple[bool, Any]:
    raise AssertionError("columns are stepped by their codes")


_COLUMNS_MODEL: Final = Model(name="columns", init=lambda: None, step=_no_step)
