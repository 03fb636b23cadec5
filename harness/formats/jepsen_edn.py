"""Jepsen histories in EDN, and Porcupine's key-value histories, which are EDN maps with a ``:key``.

A history is a vector or list of maps, or one map after another; a map may be
tagged (``#jepsen.history.Op{...}``).  What is read of a map:

======================  ======================================================
``:process``            an int, or ``:nemesis``; 0 where there is none
``:type``               ``:invoke :ok :fail :info``
``:f``                  without its colon; "txn" where there is none
``:value``              in plain Python (``edn.PLAIN``)
``:time :index``        nanoseconds and place; filled in where missing
``:error``              ``[:class "text"]`` becomes "class: text"
``:key :node``          as they are; so are ``:revision :intended-ns``
anything else           goes to ``extra``
======================  ======================================================

The order of the records is the real-time order, whatever ``:time`` says; where
every record has an ``:index``, that is the order.  A completion that says why
instead of what (``:info :write :timed-out``) keeps the invocation's value and
turns the reason into its error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.errors import HistoryError
from splitvote.harness.formats.edn import EdnError, RecordProblem, read_forms
from splitvote.harness.formats.edn_text import edn_text
from splitvote.harness.op import NEMESIS, UNASSIGNED, Op, OpType

_TYPES: Final[dict[Any, OpType]] = {"invoke": "invoke", "ok": "ok", "fail": "fail", "info": "info"}
_COMPARE_FAILED: Final = "did-not-succeed"
_KV_FUNCTIONS: Final = frozenset({"get", "put", "append"})
_NEXT_STEP: Final = "give a Jepsen history.edn (maps with :process :type :f :value), or name the --format it has"


def read_jepsen_edn(path: Path, *, independent: bool = False, bare_cas_compared: bool = False) -> list[Op]:
    """Read an EDN history; ``independent`` splits values ``[k v]`` of clients into key and value.

    A failed cas tells nothing of the state unless its error is
    ``:did-not-succeed``, or ``bare_cas_compared`` says that those without any
    error do: in Jepsen's own histories ``:fail`` may as well mean that no
    connection was to be had, and Knossos deletes what failed.

    Raises HistoryError naming file and line.
    """
    ops: list[Op] = []
    try:
        for form in read_forms(_text_of(path), record=op_of_map):
            if isinstance(form, Op):
                ops.append(form)
            elif isinstance(form, list):
                ops.extend(_ops_of_list(form))
            else:
                raise HistoryError(f"{path}: expected maps, found {edn_text(form)[:60]}; {_NEXT_STEP}")
    except EdnError as problem:
        raise HistoryError(f"{path}:{problem.line}: {problem.problem}") from None
    except RecordProblem as problem:
        raise HistoryError(f"{path}: {problem}") from None
    if not ops:
        raise HistoryError(f"{path}: holds no operations; {_NEXT_STEP}")
    settled = settle_records(ops, bare_cas_compared=bare_cas_compared)
    return [split_key(op) for op in settled] if independent else settled


def read_porcupine_kv(path: Path) -> list[Op]:
    """Read a key-value history (get, put, append; each with a key); raises as ``read_jepsen_edn`` does."""
    ops = read_jepsen_edn(path)
    for op in ops:
        if op.f not in _KV_FUNCTIONS or op.key is None:
            raise HistoryError(
                f"{path}: record {op.index}: expected :get, :put or :append with a :key, found :{op.f} of key "
                f"{op.key!r}; other Jepsen histories are --format edn"
            )
    return ops


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise HistoryError(
            f"{path}: byte {problem.start} is not UTF-8 text ({problem.reason}); unpack the file if it is compressed"
        ) from None
    except OSError as failure:
        raise HistoryError(f"cannot read {path}: {failure.strerror}; give a history file") from None


def _ops_of_list(items: list[Any]) -> list[Op]:
    for number, item in enumerate(items):
        if not isinstance(item, Op):
            raise RecordProblem(f"item {number}: expected a map, found {edn_text(item)[:60]}; {_NEXT_STEP}")
    return items


def op_of_map(record: dict[Any, Any]) -> Op:
    """One record of a map, its index and time UNASSIGNED where the map has none; raises RecordProblem."""
    take = record.pop
    type_ = _TYPES.get(take("type", None))
    if type_ is None:
        raise RecordProblem(f"expected a map with a :type of :invoke, :ok, :fail or :info; {_NEXT_STEP}")
    process = take("process", 0)
    if process.__class__ is not int or process < 0:
        process = _special_process(process)
        type_ = "info"
    f, value, key, error = take("f", None), take("value", None), take("key", None), take("error", None)
    return Op(
        index=_whole_number(take("index", None), "index"),
        time_ns=_whole_number(take("time", None), "time"),
        process=process,
        type=type_,
        f=f if f.__class__ is str else _function_name(f, value),
        key=tuple(key) if isinstance(key, list) else key,
        value=value,
        error=error if error is None else _error_text(error),
        node=_node_name(take("node", None)),
        revision=take("revision", None),
        intended_ns=take("intended-ns", None),
        extra={str(name): item for name, item in record.items()} if record else None,
    )


def _special_process(process: Any) -> int:
    if process == "nemesis":
        return NEMESIS
    raise RecordProblem(f"expected a :process that is a whole number or :nemesis, found {process!r}")


def _whole_number(number: Any, name: str) -> int:
    if number is None or number == -1:  # Jepsen's own word for "none yet"
        return UNASSIGNED
    if number.__class__ is not int or number < 0:
        raise RecordProblem(f"expected :{name} to be a whole number, found {number!r}")
    return int(number)


def _function_name(f: Any, value: Any) -> str:
    if f is not None:
        return edn_text(f)
    return "txn" if isinstance(value, list) else ""


def _node_name(node: Any) -> str | None:
    return node if node is None or isinstance(node, str) else edn_text(node)


def _error_text(error: Any) -> str:
    """``:timed-out`` and ``[:timed-out "text"]`` as "timed-out" and "timed-out: text"."""
    if isinstance(error, str):
        return error
    if isinstance(error, list) and error and isinstance(error[0], str):
        rest = " ".join(item if isinstance(item, str) else edn_text(item) for item in error[1:])
        return f"{error[0]}: {rest}" if rest else error[0]
    return edn_text(error)


def settle_records(ops: Iterable[Op], *, bare_cas_compared: bool) -> list[Op]:
    """Put records in order, fill in index and time, read reasons off values, mark compares that failed.

    ``bare_cas_compared`` says that a cas that failed without a reason did so
    because the state was not the expected one.
    """
    ops = list(ops)
    if all(op.index != UNASSIGNED for op in ops):
        ops.sort(key=lambda op: op.index)
        keep_index = True
    else:
        keep_index = False
    open_values: dict[int, Any] = {}
    last_ns = -1
    settled = []
    for place, op in enumerate(ops):
        changes: dict[str, Any] = {} if keep_index else {"index": place}
        if op.time_ns == UNASSIGNED:
            changes["time_ns"] = last_ns + 1
        if op.process != NEMESIS:
            if op.type == "invoke":
                open_values[op.process] = op.value
            elif op.type != "ok":
                changes |= _why_it_did_not(op, open_values.get(op.process), bare_cas_compared)
        if changes:
            op = msgspec.structs.replace(op, **changes)
        last_ns = op.time_ns
        settled.append(op)
    return settled


def _why_it_did_not(op: Op, asked: Any, bare_cas_compared: bool) -> dict[str, Any]:
    """A fail's or info's error and value, and whether it observed that a compare failed."""
    changes: dict[str, Any] = {}
    error = op.error
    if error is None and isinstance(op.value, str) and op.value != asked:
        error = op.value
        changes = {"error": error, "value": asked}
    if op.type == "fail" and op.f == "cas" and (error == _COMPARE_FAILED or (error is None and bare_cas_compared)):
        changes["extra"] = (op.extra or {}) | {"observed": True}
    return changes


def split_key(op: Op) -> Op:
    """A client's value ``[k v]`` as key and value (Jepsen's independent keys); others as they are."""
    if op.process == NEMESIS or not isinstance(op.value, list) or len(op.value) != 2:
        return op
    key, value = op.value
    return msgspec.structs.replace(op, key=tuple(key) if isinstance(key, list) else key, value=value)
