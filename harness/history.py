"""Histories: streamed to disk as JSON lines while a run goes on, read back as records, operations or columns.

Crash safety: a record is one line; the writer hands whole lines to the kernel
at least every ``FLUSH_INTERVAL_S``, so that a harness killed with SIGKILL loses
at most that much.  A torn last line is dropped on reading and reported in
``History.torn_bytes``; garbage anywhere else is a HistoryError naming the line.

Order: the records' order is the real-time order.  The runner writes a
completion before it hands out the next invocation, so an operation whose
completion is written before another's invoke did precede it.  Readers of
foreign histories put calls before returns where times are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from splitvote.harness.errors import HistoryError
from splitvote.harness.jsonl import JsonLinesWriter, read_all, read_chunks
from splitvote.harness.op import NEMESIS, Op, Operation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

FLUSH_INTERVAL_S: Final = 0.1

TYPE_CODES: Final = {"invoke": 0, "ok": 1, "fail": 2, "info": 3, "event": 4}


class HistoryWriter(JsonLinesWriter[Op]):
    """Streams records to history.jsonl; the owner calls ``flush`` every FLUSH_INTERVAL_S."""


class History(Sequence[Op]):
    """An immutable sequence of records in real-time order."""

    def __init__(self, records: Iterable[Op] = (), *, torn_bytes: int = 0) -> None:
        self._records: tuple[Op, ...] = tuple(records)
        self.torn_bytes = torn_bytes

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, item: Any) -> Any:
        return self._records[item]

    def __iter__(self) -> Iterator[Op]:
        return iter(self._records)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Clients' invocations with their completions, in the order of invocation; events and the nemesis are left out.

        Raises HistoryError where a process invokes while another of its
        operations is open, or completes what it never invoked.
        """
        return tuple(pair_up(self._records))

    @cached_property
    def events(self) -> dict[int, tuple[Op, ...]]:
        """Stream events by the index of the invoke they belong to."""
        found: dict[int, list[Op]] = {}
        for op in self._records:
            if op.type == "event" and op.of is not None:
                found.setdefault(op.of, []).append(op)
        return {of: tuple(ops) for of, ops in found.items()}

    @cached_property
    def nemesis(self) -> tuple[Op, ...]:
        """The nemesis's records."""
        return tuple(op for op in self._records if op.process == NEMESIS)

    def by_key(self) -> dict[Any, list[Operation]]:
        """Clients' operations by independent key (a list key counts as a tuple), in the order of invocation."""
        keys: dict[Any, list[Operation]] = {}
        for operation in self.operations:
            key = operation.key
            keys.setdefault(tuple(key) if isinstance(key, list) else key, []).append(operation)
        return keys

    def columns(self) -> Columns:
        """The records as NumPy columns."""
        return columns_of([self._records])

    def to_pandas(self) -> pd.DataFrame:
        """One row a record: index, time_ns, process, type, f, key, value, error, node, revision, pair."""
        return self.columns().to_pandas()


def pair_up(records: Iterable[Op]) -> Iterator[Operation]:
    """Pair every client invocation with its completion (see ``History.operations``)."""
    invokes: list[Op] = []
    completions: list[Op | None] = []
    open_at: dict[int, int] = {}
    for op in records:
        if op.process == NEMESIS or op.type == "event":
            continue
        if op.type == "invoke":
            if op.process in open_at:
                raise HistoryError(
                    f"record {op.index}: process {op.process} invokes {op.f!r} while its operation "
                    f"{invokes[open_at[op.process]].index} is still open; a history pairs one at a time"
                )
            open_at[op.process] = len(invokes)
            invokes.append(op)
            completions.append(None)
        else:
            place = open_at.pop(op.process, None)
            if place is None:
                raise HistoryError(
                    f"record {op.index}: process {op.process} completes {op.f!r} ({op.type}) but has nothing open"
                )
            completions[place] = op
    return map(Operation, invokes, completions)


@dataclass(frozen=True, slots=True)
class Columns:
    """A history as columns; ``f`` and ``key`` are codes into ``f_names`` and ``key_names`` (-1: none).

    ``pair`` is the row of the other half of the operation, -1 for none (open
    operations, events, the nemesis).  ``type`` holds TYPE_CODES.  ``value``,
    ``error`` and ``node`` stay Python objects.
    """

    index: npt.NDArray[np.int64]
    time_ns: npt.NDArray[np.int64]
    process: npt.NDArray[np.int32]
    type: npt.NDArray[np.int8]
    f: npt.NDArray[np.int16]
    key: npt.NDArray[np.int32]
    revision: npt.NDArray[np.int64]
    pair: npt.NDArray[np.int64]
    value: list[Any]
    error: list[str | None]
    node: list[str | None]
    f_names: list[str]
    key_names: list[Any]

    def to_pandas(self) -> pd.DataFrame:
        """One row a record, f and type as categories."""
        import numpy as np
        import pandas as pd

        keys = self.key_names
        return pd.DataFrame(
            {
                "index": self.index,
                "time_ns": self.time_ns,
                "process": self.process,
                "type": pd.Categorical.from_codes(self.type.astype(np.int64), pd.Index(list(TYPE_CODES))),
                "f": pd.Categorical.from_codes(self.f.astype(np.int64), pd.Index(self.f_names)),
                "key": pd.Series([None if code < 0 else keys[code] for code in self.key.tolist()], dtype=object),
                "value": pd.Series(self.value, dtype=object),
                "error": pd.Series(self.error, dtype=object),
                "node": pd.Series(self.node, dtype=object),
                "revision": self.revision,
                "pair": self.pair,
            }
        )


def columns_of(chunks: Iterable[Sequence[Op]]) -> Columns:
    """Turn chunks of records into columns, one chunk at a time (the chunks need not live together in memory)."""
    import numpy as np

    f_codes: dict[str, int] = {}
    key_codes: dict[Any, int] = {None: -1}
    parts: dict[str, list[npt.NDArray[Any]]] = {
        name: [] for name in ("index", "time_ns", "process", "type", "f", "key", "revision")
    }
    value: list[Any] = []
    error: list[str | None] = []
    node: list[str | None] = []
    for chunk in chunks:
        parts["index"].append(np.array([op.index for op in chunk], np.int64))
        parts["time_ns"].append(np.array([op.time_ns for op in chunk], np.int64))
        parts["process"].append(np.array([op.process for op in chunk], np.int32))
        parts["type"].append(np.array([TYPE_CODES[op.type] for op in chunk], np.int8))
        parts["f"].append(np.array(_coded([op.f for op in chunk], f_codes, 0), np.int16))
        parts["key"].append(np.array(_coded([op.key for op in chunk], key_codes, 1), np.int32))
        parts["revision"].append(np.array([-1 if op.revision is None else op.revision for op in chunk], np.int64))
        value.extend([op.value for op in chunk])
        error.extend([op.error for op in chunk])
        node.extend([op.node for op in chunk])
    whole: dict[str, Any] = {
        name: np.concatenate(arrays) if arrays else np.array([], np.int64) for name, arrays in parts.items()
    }
    pair = _pair_rows(whole["process"], whole["type"])
    return Columns(
        **whole, pair=pair, value=value, error=error, node=node, f_names=list(f_codes), key_names=list(key_codes)[1:]
    )


def _coded(names: list[Any], codes: dict[Any, int], first: int) -> list[int]:
    """Each name's code; new names get the next (a name that is a list counts as a tuple).

    ``first`` entries of ``codes`` are not names and take no number.
    """
    try:
        new = dict.fromkeys(names)
    except TypeError:
        names = [tuple(name) if isinstance(name, list) else name for name in names]
        new = dict.fromkeys(names)
    for name in new:
        codes.setdefault(name, len(codes) - first)
    return [codes[name] for name in names]


def _pair_rows(process: npt.NDArray[Any], type_: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Row of the other half of each client operation: per process, an invoke and the record after it."""
    import numpy as np

    pair = np.full(len(process), -1, np.int64)
    rows = np.flatnonzero((process != NEMESIS) & (type_ != TYPE_CODES["event"]))
    order = rows[np.argsort(process[rows], kind="stable")]
    if len(order) < 2:
        return pair
    first, second = order[:-1], order[1:]
    joined = (process[first] == process[second]) & (type_[first] == 0) & (type_[second] != 0)
    pair[first[joined]] = second[joined]
    pair[second[joined]] = first[joined]
    return pair


def read_history(path: Path) -> History:
    """Read a history.jsonl whole, dropping a torn last line.

    Raises HistoryError (naming the line) where anything else is not a record.
    """
    records, torn_bytes = read_all(path, Op)
    return History(records, torn_bytes=torn_bytes)


def read_columns(path: Path) -> Columns:
    """Read a history.jsonl into columns without holding its records; raises as ``read_history`` does."""
    return columns_of(chunk for chunk, _ in read_chunks(path, Op))
