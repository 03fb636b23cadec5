"""Read a history from elsewhere, whatever its format.

The format is told by the content, never by the file's name.  Every reader
gives records in real-time order with index and time filled in.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.formats.jepsen_edn import read_jepsen_edn, read_porcupine_kv
from splitvote.harness.formats.jepsen_log import LINE, read_jepsen_log
from splitvote.harness.history import History, read_history
from splitvote.harness.op import Op

FormatName = Literal["auto", "jsonl", "edn", "jepsen-log", "porcupine-kv"]
FORMATS: Final[tuple[FormatName, ...]] = ("auto", "jsonl", "edn", "jepsen-log", "porcupine-kv")

_PEEK_BYTES: Final = 1 << 16
_EDN_BLANK: Final = r"(?:[\s,]|;[^\n]*\n|#_)*"
_EDN_START: Final = re.compile(rf"{_EDN_BLANK}[\[(]?{_EDN_BLANK}(?:#[\w.:]+\s*)?\{{\s*:")
_KV_RECORD: Final = re.compile(r"\{[^{}]*:f\s+:(?:get|put|append)\b[^{}]*\}")
_HISTORY_NAMES: Final = ("history.jsonl", "history.edn", "history.txt")


def read_any(
    path: Path | str, format: FormatName = "auto", *, independent: bool = False, drop_failed_cas: bool | None = None
) -> History:
    """Read a history in any format that is known; a directory stands for the history in it.

    ``independent`` splits clients' values ``[k v]`` into key and value (EDN and
    Jepsen logs).

    A compare-and-set that failed may be taken as an observation that the state
    was not the expected one (``extra["observed"]``; Porcupine's reading), or as
    nothing at all (Knossos').  None leaves that to the format: JSON lines say it
    themselves, in Jepsen logs it is one unless another reason is given, in EDN
    only where the error is ``:did-not-succeed``.  ``drop_failed_cas`` True takes
    nothing from any, False takes those of EDN as in logs.

    Raises HistoryError naming the file, the place and what was expected, and
    ConfigError for a format that is none of FORMATS.
    """
    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    file = _history_file(Path(path))
    found = detect_format(file) if format == "auto" else format
    with _collector_paused():
        history = _read(file, found, independent, bare_cas_compared=drop_failed_cas is False)
    return _without_observations(history) if drop_failed_cas else history


def _read(file: Path, format: FormatName, independent: bool, *, bare_cas_compared: bool) -> History:
    match format:
        case "edn":
            return History(read_jepsen_edn(file, independent=independent, bare_cas_compared=bare_cas_compared))
        case "jepsen-log":
            return History(read_jepsen_log(file, independent=independent))
        case "porcupine-kv":
            return History(read_porcupine_kv(file))
        case _:
            return read_history(file)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the cycle collector from scanning a growing history : reading makes no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def detect_format(path: Path) -> FormatName:
    """The format of a file by its first 64 KiB; raises HistoryError when none fits."""
    try:
        with path.open("rb") as file:
            head = file.read(_PEEK_BYTES)
    except OSError as failure:
        raise HistoryError(f"cannot read {path}: {failure.strerror}; give a history file or a run directory") from None
    if not head.strip():
        raise HistoryError(f"{path} is empty: there is no history in it")
    if head.startswith(b"\x1f\x8b"):
        raise HistoryError(f"{path} is compressed with gzip; unpack it first (gunzip -k {path.name})")
    text = head.decode("utf-8", errors="replace")
    if text.lstrip().startswith('{"'):
        return "jsonl"
    if _EDN_START.match(text):
        record = _KV_RECORD.search(text)
        return "porcupine-kv" if record and re.search(r":key\s", record.group()) else "edn"
    if any(LINE.search(line) for line in text.splitlines()):
        return "jepsen-log"
    raise HistoryError(
        f"{path}: byte 0: no known history begins with {text.lstrip()[:40]!r}; expected JSON lines, EDN maps, "
        f"a Jepsen log or Porcupine's key-value EDN; name it with --format ({', '.join(FORMATS[1:])})"
    )


def _history_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _HISTORY_NAMES:
        if (path / name).is_file():
            return path / name
    raise HistoryError(f"{path} holds none of {', '.join(_HISTORY_NAMES)}; give a run directory or a history file")


def _without_observations(history: History) -> History:
    return History((_without_observation(op) for op in history), torn_bytes=history.torn_bytes)


def _without_observation(op: Op) -> Op:
    if op.extra is None or "observed" not in op.extra:
        return op
    rest = {name: value for name, value in op.extra.items() if name != "observed"}
    return msgspec.structs.replace(op, extra=rest or None)
