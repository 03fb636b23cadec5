"""Jepsen's log lines: ``INFO  jepsen.util - PROCESS :TYPE :F VALUE [ERROR]``.

Jepsen separates the fields with tabs; copies that turned tabs into spaces are
read as well.  Lines that are no operations (the rest of a log) are skipped.  The order of the
lines is the real-time order; the log's own time stamps are too coarse to be
read.  ``:fail :read :timed-out`` is a read whose result nobody knows: it stays
a ``fail``, which for a read says no more than that.  ``:fail :cas [a b]``, with
the value it was asked, is an observation that the state was not ``a`` (the
record's ``extra`` says ``observed``); ``:info`` may take effect at any later
time or never.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from splitvote.harness.errors import HistoryError
from splitvote.harness.formats.edn import EdnError, RecordProblem, read_form, read_forms
from splitvote.harness.formats.jepsen_edn import op_of_map, settle_records, split_key
from splitvote.harness.op import Op

LINE: Final = re.compile(r"(?:^|\s)(\d+|:nemesis)\s+:(invoke|ok|fail|info)\s+([^\s\"]+)\s+(\S.*)$", re.ASCII)
_ALMOST: Final = re.compile(r"(?:^|\s)(?:\d+|:nemesis)\s+:(?:invoke|ok|fail|info)(?:\s|$)", re.ASCII)


def read_jepsen_log(path: Path, *, independent: bool = False) -> list[Op]:
    """Read the operations of a Jepsen log; raises HistoryError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as failure:
        raise HistoryError(f"cannot read {path}: {failure.strerror}; give a history file") from None
    seen: dict[str, tuple[Any, Any]] = {}
    ops = []
    for number, line in enumerate(lines, 1):
        match = LINE.search(line)
        if match is not None:
            ops.append(_op_of_fields(match, seen, f"{path}:{number}"))
        elif _ALMOST.search(line):
            raise HistoryError(
                f"{path}:{number}: expected PROCESS, :TYPE, :F and VALUE, found {line[:80]!r}; "
                "the line may be cut: restore it or remove it"
            )
    if not ops:
        raise HistoryError(
            f"{path}: no line holds an operation (PROCESS, :TYPE, :F, VALUE); "
            "give a log of Jepsen's, or name the --format it has"
        )
    settled = settle_records(ops, bare_cas_compared=True)
    return [split_key(op) for op in settled] if independent else settled


def _op_of_fields(match: re.Match[str], seen: dict[str, tuple[Any, Any]], place: str) -> Op:
    process, type_, f, rest = match.groups()
    try:
        if rest not in seen:  # logs repeat a handful of values
            seen[rest] = _value_and_error(rest)
        value, error = seen[rest]
        return op_of_map(
            {
                "process": "nemesis" if process == ":nemesis" else int(process),
                "type": type_,
                "f": f.removeprefix(":"),
                "value": value,
                "error": error,
            }
        )
    except (EdnError, RecordProblem) as problem:
        text = problem.problem if isinstance(problem, EdnError) else str(problem)
        raise HistoryError(f"{place}: {text}") from None


def _value_and_error(text: str) -> tuple[Any, Any]:
    """The fields after f; an error that is no EDN (an exception's own words) is kept as it is."""
    value, tab, error = text.partition("\t")
    if tab:
        try:
            return read_form(value), read_form(error)
        except EdnError:
            return read_form(value), error.strip()
    forms = list(read_forms(text))
    if len(forms) > 2:
        raise RecordProblem(f"expected a value and at most an error, found {text[:60]!r}")
    return forms[0], forms[1] if len(forms) == 2 else None
