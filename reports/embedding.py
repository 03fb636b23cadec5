"""A run's data inside the page: drawing columns, and details of operations in chunks that are unpacked when asked for.

Columns are little-endian arrays, one after another, each starting at a multiple
of eight bytes; ``columns_of`` says where.  Everything large is deflated and
base64-coded, so that no byte of the system under test can end the script
element or be taken for markup; what is small stays JSON with ``<``, ``>``,
``&`` and the line separators escaped.  The browser's side is ``web/data.js``.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from splitvote.harness.op import Op, Operation
from splitvote.reports.wording import key_name

if TYPE_CHECKING:
    import numpy.typing as npt

CHUNK_OPERATIONS: Final = 2_000
RECORD_BYTES: Final = 4_096
"""A record longer than this as JSON has its long parts cut."""

EVENTS_KEPT: Final = 50
"""How many events of one operation its details hold."""

NONE: Final = 0xFFFFFFFF
"""In a u32 column: no value (an open operation's duration, a missing key)."""

_PLAIN_BYTES: Final = 2_048
DEFAULT_LEVEL: Final = 6  # 9 takes three times as long to save 2 %
QUICK_LEVEL: Final = 1
"""For huge runs, where the time to pack them matters more than a few megabytes."""

_TEXT_KEPT: Final = 512
_ITEMS_KEPT: Final = 64
_DEPTH_KEPT: Final = 8
OUTCOMES: Final = {"ok": 1, "fail": 2, "info": 3}


@dataclass(frozen=True, slots=True)
class Embedded:
    """The content of one script element; ``kind`` tells the browser how to read it."""

    id: str
    kind: str
    text: str


def embed_json(id: str, value: Any) -> Embedded:
    """Any JSON value as the content of a script element."""
    return embed_bytes(id, msgspec.json.encode(value, enc_hook=repr), kind="json")


def embed_bytes(id: str, content: bytes, *, kind: str, level: int = DEFAULT_LEVEL) -> Embedded:
    """Bytes as the content of a script element: JSON stays readable where small, all else is packed."""
    if kind == "json" and len(content) <= _PLAIN_BYTES:
        return Embedded(id, "json", _inert(content.decode()))
    return Embedded(id, f"{kind}+deflate", base64.b64encode(zlib.compress(content, level)).decode())


def _inert(json: str) -> str:
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return json.translate({ord(character): escape for character, escape in escapes.items()})


@dataclass(frozen=True, slots=True)
class Names:
    """Codes for strings and keys, in the order of their first use; -1 (NONE) for none."""

    codes: dict[str, int]

    def code(self, name: str | None) -> int:
        """The code of a name, a new one if need be."""
        return NONE if name is None else self.codes.setdefault(name, len(self.codes))


def operation_columns(operations: Sequence[Operation], *, threads: int) -> tuple[bytes, dict[str, Any]]:
    """Columns for drawing every operation, and what the browser needs to read them (names, places, lanes).

    ``gap_us`` and ``invoke_gap`` are the differences of the invocations' times and
    indexes (small numbers pack well), ``length_us`` the operations' lengths (NONE
    while open), ``complete_after`` by how much the completion's index is larger
    than the invocation's, ``late_us`` how long they had waited for a free client,
    ``lane`` the row of the timeline.
    """
    import numpy as np

    fs, keys, nodes, workloads = Names({}), Names({}), Names({}), Names({})
    invokes = np.array([operation.invoke.index for operation in operations], np.int64).clip(0, NONE)
    starts = np.array([operation.invoke.time_ns // 1000 for operation in operations], np.int64)
    lanes, lane_names = lanes_of(operations, threads=threads)
    arrays: dict[str, npt.NDArray[Any]] = {
        "gap_us": np.diff(starts, prepend=0).clip(0, NONE).astype("<u4"),
        "length_us": np.array([_length_us(operation) for operation in operations], "<u4"),
        "late_us": np.array([_late_us(operation) for operation in operations], "<u4"),
        "invoke_gap": np.diff(invokes, prepend=0).clip(0, NONE).astype("<u4"),
        "complete_after": np.array([_completed_after(operation) for operation in operations], "<u4"),
        "process": np.array([operation.process for operation in operations], np.int64).clip(0, NONE).astype("<u4"),
        "key": np.array([keys.code(key_name(operation.key)) for operation in operations], "<u4"),
        "lane": np.array(lanes, "<u2"),
        "f": np.array([fs.code(operation.f) & 0xFFFF for operation in operations], "<u2"),
        "node": np.array([nodes.code(_node(operation)) & 0xFFFF for operation in operations], "<u2"),
        "workload": np.array([workloads.code(operation.invoke.workload) & 0xFF for operation in operations], "<u1"),
        "outcome": np.array([OUTCOMES.get(operation.type, 3) for operation in operations], "<u1"),
    }
    content, places = _pack(arrays)
    names = {"f": list(fs.codes), "key": list(keys.codes), "node": list(nodes.codes), "lane": lane_names}
    names["workload"] = list(workloads.codes)
    return content, {"count": len(operations), "places": places, "names": names}


def _pack(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[bytes, dict[str, list[Any]]]:
    content = bytearray()
    places: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        places[name] = [array.dtype.itemsize, len(content), len(array)]
        content += array.tobytes()
        content += b"\0" * (-len(content) % 8)
    return bytes(content), places


def _length_us(operation: Operation) -> int:
    if operation.completion is None:
        return NONE
    length = (operation.completion.time_ns - operation.invoke.time_ns) // 1000
    return min(max(length, 0), NONE - 1)


def _late_us(operation: Operation) -> int:
    """By how much the invocation was later than the generator wanted it."""
    invoke = operation.invoke
    late = 0 if invoke.intended_ns is None else (invoke.time_ns - invoke.intended_ns) // 1000
    return min(max(late, 0), NONE - 1)


def _completed_after(operation: Operation) -> int:
    """0 where it never completed, or where the completion stands for itself."""
    return 0 if operation.completion is None else max(operation.completion.index - operation.invoke.index, 0)


def _node(operation: Operation) -> str | None:
    completion = operation.completion
    return operation.invoke.node if completion is None or completion.node is None else completion.node


def lanes_of(operations: Sequence[Operation], *, threads: int) -> tuple[list[int], list[str]]:
    """A row for each operation, so that no two of a row overlap, and the rows' names.

    With a known number of client threads a row is a thread (process modulo
    threads, as the runner renumbers after info); else it is a process, reusing
    the row of one that has ended.
    """
    if threads > 0:
        used = [operation.process % threads for operation in operations]
        return used, [f"thread {lane}" for lane in range(max(used, default=-1) + 1)]
    last_of = {operation.process: _ended_ns(operation) for operation in operations}
    lane_of: dict[int, int] = {}
    free_from: list[float] = []
    for operation in operations:
        if operation.process not in lane_of:
            begun = operation.invoke.time_ns
            lane = next((lane for lane, free in enumerate(free_from) if free < begun), len(free_from))
            free_from[lane : lane + 1] = [last_of[operation.process]]
            lane_of[operation.process] = lane
    names = [f"process {process}" for process in lane_of] if len(lane_of) == len(free_from) else []
    names = names or [f"lane {lane}" for lane in range(len(free_from))]
    return [lane_of[operation.process] for operation in operations], names


def _ended_ns(operation: Operation) -> float:
    return float("inf") if operation.completion is None else operation.completion.time_ns


def detail_chunks(
    operations: Sequence[Operation], events: Mapping[int, Sequence[Op]], *, size: int = CHUNK_OPERATIONS
) -> Iterable[bytes]:
    """Full records as JSON, ``size`` operations a chunk: ``[invoke, completion, events, number of events]`` each."""
    for first in range(0, len(operations), size):
        yield b"[" + b",".join(_detail(operation, events) for operation in operations[first : first + size]) + b"]"


def _detail(operation: Operation, events: Mapping[int, Sequence[Op]]) -> bytes:
    seen = events.get(operation.invoke.index, ())
    completion = b"null" if operation.completion is None else record_json(operation.completion)
    kept = b",".join(map(record_json, seen[:EVENTS_KEPT]))
    return b"[%b,%b,[%b],%d]" % (record_json(operation.invoke), completion, kept, len(seen))


def record_json(record: Op) -> bytes:
    """A record as JSON, its long parts cut with a note of their length when it is over RECORD_BYTES."""
    encoded = msgspec.json.encode(record, enc_hook=repr)
    if len(encoded) <= RECORD_BYTES:
        return encoded
    trimmed = msgspec.json.encode(trim(msgspec.to_builtins(record, enc_hook=repr)), enc_hook=repr)
    if len(trimmed) <= 4 * RECORD_BYTES:
        return trimmed
    short = {"index": record.index, "time_ns": record.time_ns, "process": record.process, "type": record.type}
    note = f"… (a record of {len(encoded):,} bytes; see history.jsonl)"
    return msgspec.json.encode(short | {"f": record.f[:_TEXT_KEPT], "value": note})


def trim(value: Any, depth: int = 0) -> Any:
    """The value with long texts, long collections and deep nesting cut, each with a note of what was there."""
    if isinstance(value, str):
        return value if len(value) <= _TEXT_KEPT else f"{value[:_TEXT_KEPT]}… ({len(value):,} characters)"
    if isinstance(value, (list, tuple, dict)) and depth >= _DEPTH_KEPT:
        return f"… ({len(value):,} items)"
    if isinstance(value, (list, tuple)):
        kept = [trim(item, depth + 1) for item in value[:_ITEMS_KEPT]]
        return kept if len(value) <= _ITEMS_KEPT else [*kept, f"… ({len(value):,} items)"]
    if isinstance(value, dict):
        kept_items = {trim(str(name)): trim(item, depth + 1) for name, item in list(value.items())[:_ITEMS_KEPT]}
        return kept_items if len(value) <= _ITEMS_KEPT else kept_items | {"…": f"({len(value):,} entries)"}
    return value
