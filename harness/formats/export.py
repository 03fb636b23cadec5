"""Write histories for others to judge: EDN for Elle and Knossos, JSON lines, Parquet for data tools."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.formats.edn import Keyword
from splitvote.harness.formats.edn_text import edn_text, is_keyword_name
from splitvote.harness.history import History, HistoryWriter
from splitvote.harness.op import NEMESIS, Op

MICRO_OPS: Final = frozenset({"r", "w", "append", "read", "write"})


def write_edn(history: Iterable[Op], path: Path, *, keys: Literal["tuple", "field"] = "tuple") -> None:
    """Write a history as Jepsen's history.edn: one map a line.

    Types, functions, micro-operations (``[:append 3 1]``) and the names in maps
    print as keywords, the nemesis as ``:nemesis``.  ``keys`` says where an
    independent key goes: in front of the value (``[k v]``, Jepsen's way) or to
    a ``:key`` of its own (Porcupine's).  Stream events have no place in EDN
    histories and are left out; indices count what is written, from 0.

    Raises HistoryError for an f that cannot be a keyword.
    """
    with path.open("w", encoding="utf-8") as file:
        for line in edn_lines(history, keys=keys):
            file.write(line + "\n")


def edn_lines(history: Iterable[Op], *, keys: Literal["tuple", "field"] = "tuple") -> Iterator[str]:
    """The lines of ``write_edn``."""
    index = 0
    for op in history:
        if op.type == "event":
            continue
        yield edn_text(_map_of(op, index, keys))
        index += 1


def _map_of(op: Op, index: int, keys: str) -> dict[Keyword, Any]:
    if op.f and not is_keyword_name(op.f):
        raise HistoryError(f"record {op.index}: f {op.f!r} cannot be an EDN keyword; rename it before exporting")
    value = edn_value(op.value)
    record: dict[str, Any] = {
        "type": Keyword(op.type),
        "f": Keyword(op.f) if op.f else None,
        "value": [edn_value(op.key), value] if op.key is not None and keys == "tuple" else value,
        "process": Keyword("nemesis") if op.process == NEMESIS else op.process,
        "time": op.time_ns,
        "index": index,
    }
    if op.key is not None and keys == "field":
        record["key"] = edn_value(op.key)
    fields = {"error": op.error, "node": op.node, "revision": op.revision, "intended-ns": op.intended_ns}
    record |= {name: item for name, item in fields.items() if item is not None}
    record |= {name: edn_value(item) for name, item in (op.extra or {}).items()}
    return {Keyword(name): item for name, item in record.items()}


def edn_value(value: Any) -> Any:
    """A value with keywords where Jepsen has them: micro-operations and the names in maps; tuples as vectors."""
    if isinstance(value, dict):
        return {_map_key(key): edn_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [edn_value(item) for item in value]
        if 2 <= len(items) <= 3 and isinstance(items[0], str) and items[0] in MICRO_OPS:
            items[0] = Keyword(items[0])
        return items
    return value


def _map_key(key: Any) -> Any:
    return Keyword(key) if isinstance(key, str) and is_keyword_name(key) and not key[0].isdigit() else key


def write_jsonl(history: Iterable[Op], path: Path) -> None:
    """Write a history as our own JSON lines, replacing the file; what JSON has no word for is written as its repr."""
    path.unlink(missing_ok=True)  # the writer appends
    writer = HistoryWriter(path)
    try:
        for op in history:
            writer.append(op)
    finally:
        writer.close()


def write_parquet(history: History, path: Path) -> None:
    """Write a history as one Parquet table (the columns of ``History.to_pandas``); key and value are JSON text.

    Raises ConfigError when pyarrow is missing.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("cannot write Parquet: it needs pyarrow; pip install 'splitvote[parquet]'")
    frame = history.to_pandas()
    for name in ("key", "value"):
        frame[name] = [None if item is None else _json_text(item) for item in frame[name]]
    frame.to_parquet(path, engine="pyarrow", index=False)


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=repr).decode()
