"""A history of transactions as NumPy columns, and how to get there from records.

A transaction is an invocation with its outcome.  Of one that is ``ok`` every
micro-operation is kept; of one that failed or crashed only what it asked to
write, since what it would have read is unknown.  A transaction still open when
the history ends counts as crashed.  Times are places in the history: a
completion's place before an invocation's is real-time order.

Values are codes: an integer that fits in 31 bits stands for itself, anything
else gets a negative code (``Codes``), and ``NIL`` is the initial state of a
register.  Keys are numbered in order of appearance.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from splitvote.harness.errors import HistoryError
from splitvote.harness.jsonl import read_chunks
from splitvote.harness.op import NEMESIS, Op

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Dialect = Literal["append", "w"]
"""What writes are called: ``append`` for list-append, ``w`` for rw-register."""

OK: Final = 1
FAIL: Final = 2
INFO: Final = 3

NIL: Final = -1
"""The code of the initial state."""

NEVER: Final = -1
"""The place of a completion that never was (or is of no use: only an ok is an answer)."""

_MOST_CODE: Final = (1 << 31) - 1
_CHUNK_RECORDS: Final = 1 << 15


@dataclass(slots=True)
class Codes:
    """Values that are no small integers, by their negative code."""

    values: list[Any] = field(default_factory=list)
    numbers: dict[Any, int] = field(default_factory=dict)

    def code(self, value: Any) -> int:
        """The code of a value; NIL for None."""
        if value is None:
            return NIL
        if type(value) is int and 0 <= value <= _MOST_CODE:
            return value
        name = (type(value).__name__, _hashable(value))
        number = self.numbers.get(name)
        if number is None:
            number = self.numbers[name] = -2 - len(self.values)
            self.values.append(value)
        return number

    def value(self, code: int) -> Any:
        """The value of a code."""
        if code >= 0:
            return code
        return None if code == NIL else self.values[-2 - code]


@dataclass(frozen=True, slots=True)
class Transactions:
    """Transactions as columns: n transactions, m micro-operations of them, and what list reads saw.

    Per transaction: ``type`` (OK, FAIL, INFO), ``process``, ``invoke`` and
    ``complete`` (places in the history, or its records' own numbers; ``complete``
    is NEVER unless ok), ``first`` (n + 1 offsets into the micro-operations),
    ``last`` (the place of its completion record of any type, or NEVER).

    Per micro-operation: ``is_read``, ``key``, ``value`` (code of what was
    written or what a register read; of no meaning for a list read), ``seen``
    (m + 1 offsets into ``elements``; empty for writes and for register reads).
    ``elements`` are the codes of what list reads saw, one read after the other.
    """

    type: npt.NDArray[np.int8]
    process: npt.NDArray[np.int64]
    invoke: npt.NDArray[np.int64]
    complete: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    is_read: npt.NDArray[np.bool_]
    key: npt.NDArray[np.int32]
    value: npt.NDArray[np.int32]
    seen: npt.NDArray[np.int64]
    elements: npt.NDArray[np.int32]
    keys: Sequence[Any]
    codes: Codes

    def __len__(self) -> int:
        return len(self.type)

    def owner(self) -> npt.NDArray[np.int32]:
        """The transaction of each micro-operation."""
        import numpy as np

        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.first))

    def possible(self) -> npt.NDArray[np.bool_]:
        """Which transactions may have happened: all but those that failed."""
        possible: npt.NDArray[np.bool_] = self.type != FAIL
        return possible

    def micro_ops(self, txn: int) -> list[list[Any]]:
        """One transaction in Python values: ``[f, key, value]``, reads as "r", writes as "w"."""
        rows = range(int(self.first[txn]), int(self.first[txn + 1]))
        return [["r" if self.is_read[row] else "w", self.keys[int(self.key[row])], self.what(row)] for row in rows]

    def what(self, row: int) -> Any:
        """What a micro-operation wrote or read, as a Python value."""
        begin, end = int(self.seen[row]), int(self.seen[row + 1])
        if end > begin:
            return [self.codes.value(code) for code in self.elements[begin:end].tolist()]
        return self.codes.value(int(self.value[row]))


def transactions_of(records: Iterable[Op], dialect: Dialect) -> Transactions:
    """The columns of a history of ``txn`` operations; other clients' operations, events and the nemesis are left out.

    Raises HistoryError, naming the record, where a process invokes twice
    without completing, completes what it never invoked, or a value is no
    transaction of the dialect.
    """
    collector = _Collector(dialect)
    for chunk in _chunks(records):
        collector.add(chunk)
    return collector.finish()


def own_numbers(history: Sequence[Op]) -> npt.NDArray[np.int64] | None:
    """The records' own indices, where they are in order but not their places: in a part of a run's history."""
    import numpy as np

    numbers = np.fromiter((op.index for op in history), np.int64, len(history))
    if not len(numbers) or numbers[0] < 0 or numbers[-1] < len(numbers):
        return None
    return numbers if (np.diff(numbers) > 0).all() else None


def numbered(txns: Transactions, numbers: npt.NDArray[np.int64]) -> Transactions:
    """The same transactions with these numbers for places, so that stories name the records of the whole run."""
    import numpy as np

    def renumbered(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.where(places == NEVER, NEVER, numbers[places])

    return replace(txns, invoke=renumbered(txns.invoke), complete=renumbered(txns.complete), last=renumbered(txns.last))


def read_transactions(path: Path, dialect: Dialect) -> Transactions:
    """The columns of a history.jsonl, without ever holding its records; raises as ``transactions_of`` does."""
    collector = _Collector(dialect)
    with _garbage_collection_paused():
        for chunk, _ in read_chunks(path, _Line):
            collector.add(chunk)
    return collector.finish()


def read_records(path: Path, places: Iterable[int]) -> dict[int, Op]:
    """Fetch the records at these places of a history.jsonl."""
    wanted = set(places)
    found: dict[int, Op] = {}
    before = 0
    for chunk, _ in read_chunks(path, Op):
        found |= {place: chunk[place - before] for place in range(before, before + len(chunk)) if place in wanted}
        before += len(chunk)
    return found


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Keep the cycle collector from walking millions of lists that make no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Line(msgspec.Struct, gc=False):
    """The fields of a record that decide anything here."""

    process: int
    type: str = "invoke"
    f: str = ""
    value: Any = None


def _chunks(records: Iterable[Op]) -> Iterator[list[Op]]:
    chunk: list[Op] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == _CHUNK_RECORDS:
            yield chunk
            chunk = []
    yield chunk


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((str(name), _hashable(item)) for name, item in value.items()))
    return value


class _Collector:
    """Pairs records and lays their micro-operations down in arrays, chunk by chunk."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._open: dict[int, tuple[int, Any]] = {}
        self._place = 0
        self._codes = Codes()
        self._keys: dict[Any, int] = {}
        self._outcomes: list[tuple[int, int, int, int, int]] = []
        self._values: list[Any] = []
        self._parts: list[dict[str, npt.NDArray[Any]]] = []

    def add(self, chunk: Iterable[Op | _Line]) -> None:
        """Take the next records."""
        open_, place = self._open, self._place
        for record in chunk:
            process = record.process
            if process != NEMESIS and record.f == "txn":
                kind = record.type
                if kind == "invoke":
                    if process in open_:
                        raise HistoryError(
                            f"record {place}: process {process} invokes while its transaction of record "
                            f"{open_[process][0]} is open; a history pairs one at a time"
                        )
                    open_[process] = (place, record.value)
                elif kind != "event":
                    self._complete(place, record, open_.pop(process, None))
            place += 1
        self._place = place
        self._flush()

    def _complete(self, place: int, record: Op | _Line, invoked: tuple[int, Any] | None) -> None:
        if invoked is None:
            raise HistoryError(f"record {place}: process {record.process} completes a transaction it never invoked")
        invoke, asked = invoked
        if record.type == "ok":
            self._outcomes.append((OK, record.process, invoke, place, place))
            self._values.append(record.value)
        else:
            self._outcomes.append((FAIL if record.type == "fail" else INFO, record.process, invoke, NEVER, place))
            self._values.append(self._writes(asked))

    def _writes(self, value: Any) -> Any:
        """What a transaction asked to write; what is no transaction is left for ``_flush`` to refuse."""
        try:
            return [micro_op for micro_op in value if micro_op[0] == self._dialect]
        except (TypeError, IndexError):
            return value

    def _flush(self) -> None:
        if not self._outcomes:
            return
        import numpy as np

        try:
            counts = np.fromiter(map(len, self._values), np.int64, len(self._values))
            names, keys, values = zip(*chain.from_iterable(self._values), strict=True) if counts.any() else ((), (), ())
            if unexpected := set(names) - {"r", self._dialect}:
                raise ValueError(f"micro-operation {min(unexpected, key=str)!r}")
            part = self._micro_ops(names, keys, values)
        except (TypeError, ValueError) as problem:
            raise self._refusal(problem) from None
        part["outcomes"] = np.array(self._outcomes, np.int64).reshape(-1, 5)
        part["counts"] = counts
        self._parts.append(part)
        self._outcomes, self._values = [], []

    def _refusal(self, problem: Exception) -> HistoryError:
        """Name the first value that is no transaction."""
        form = "[f, key, value]"
        for (_, process, invoke, _, last), value in zip(self._outcomes, self._values, strict=True):
            try:
                bad = [mop for mop in value if len(mop) != 3 or mop[0] not in ("r", self._dialect)]
                bad += [mop for mop in value if self._dialect == "append" and mop[0] == "r" and not _is_list(mop[2])]
            except (TypeError, IndexError):
                bad = [value]
            if bad:
                return HistoryError(
                    f"record {invoke if last < 0 else last} (process {process}): {bad[0]!r} is no micro-operation; a "
                    f"transaction is a list of {form} with f one of 'r', {self._dialect!r}"
                )
        return HistoryError(f"a transaction is no list of {form}: {problem}")

    def _micro_ops(self, names: Sequence[str], keys: Sequence[Any], values: Sequence[Any]) -> dict[str, Any]:
        import numpy as np

        is_read = np.fromiter((name == "r" for name in names), np.bool_, len(names))
        key = np.fromiter(self._key_codes(keys), np.int32, len(keys))
        if self._dialect == "w":
            nothing = np.zeros(len(names), np.int64), np.zeros(0, np.int32)
            return {"is_read": is_read, "key": key, "value": self._coded(values), "len": nothing[0], "el": nothing[1]}
        lists = [value if name == "r" and value else () for name, value in zip(names, values, strict=True)]
        if not set(map(type, lists)) <= {list, tuple}:
            raise TypeError("a read that is no list")
        written = np.full(len(names), NIL, np.int32)
        written[~is_read] = self._coded([value for name, value in zip(names, values, strict=True) if name != "r"])
        return {
            "is_read": is_read,
            "key": key,
            "value": written,
            "len": np.fromiter(map(len, lists), np.int64, len(lists)),
            "el": self._coded(list(chain.from_iterable(lists))),
        }

    def _key_codes(self, keys: Sequence[Any]) -> Iterable[int]:
        numbers = self._keys
        try:
            for key in dict.fromkeys(keys):
                numbers.setdefault(key, len(numbers))
            return map(numbers.__getitem__, keys)
        except TypeError:  # a key that is a list
            return self._key_codes([_hashable(key) for key in keys])

    def _coded(self, values: Sequence[Any]) -> npt.NDArray[np.int32]:
        import numpy as np

        kinds = set(map(type, values))
        if kinds in ({int}, {int, type(None)}):
            filled = values if kinds == {int} else [0 if value is None else value for value in values]
            numbers = np.array(filled)  # of another type where one is past 64 bits
            if numbers.dtype == np.int64 and numbers.min() >= 0 and numbers.max() <= _MOST_CODE:
                if filled is not values:
                    numbers[[value is None for value in values]] = NIL
                return numbers.astype(np.int32)
        code: Callable[[Any], int] = self._codes.code
        return np.fromiter(map(code, values), np.int32, len(values))

    def finish(self) -> Transactions:
        """The columns of all that was added; what is still open has crashed."""
        import numpy as np

        for process, (invoke, asked) in self._open.items():
            self._outcomes.append((INFO, process, invoke, NEVER, NEVER))
            self._values.append(self._writes(asked))
        self._flush()
        empty: dict[str, npt.NDArray[Any]] = {
            "outcomes": np.zeros((0, 5), np.int64),
            "counts": np.zeros(0, np.int64),
            "is_read": np.zeros(0, np.bool_),
            "key": np.zeros(0, np.int32),
            "value": np.zeros(0, np.int32),
            "len": np.zeros(0, np.int64),
            "el": np.zeros(0, np.int32),
        }
        whole = {
            name: np.concatenate([none, *(part.pop(name) for part in self._parts)]) for name, none in empty.items()
        }
        outcomes = whole["outcomes"]
        return Transactions(
            type=outcomes[:, 0].astype(np.int8),
            process=outcomes[:, 1].copy(),
            invoke=outcomes[:, 2].copy(),
            complete=outcomes[:, 3].copy(),
            last=outcomes[:, 4].copy(),
            first=np.concatenate([[0], np.cumsum(whole["counts"])]),
            is_read=whole["is_read"],
            key=whole["key"],
            value=whole["value"],
            seen=np.concatenate([[0], np.cumsum(whole["len"])]),
            elements=whole["el"],
            keys=list(self._keys),
            codes=self._codes,
        )


def _is_list(value: Any) -> bool:
    return value is None or isinstance(value, (list, tuple))
