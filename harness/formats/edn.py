"""EDN, Clojure's data notation: a fast reader.

One regular expression cuts the text into tokens (in C, a mebibyte at a time),
where a run of atoms is one token and so is a vector of nothing but atoms; a
loop over the tokens builds values on a stack.  Bounded caches hold the runs and
atoms that repeat, as most do in a history.  Definition: the EDN specification
(github.com/edn-format/edn), plus what Clojure's printer emits beyond it:
ratios, ``##Inf``, namespaced maps ``#:ns{...}`` and metadata ``^{...} form``.

Two readings of the same grammar:

===========  =============================  ===========================
EDN          ``PLAIN`` (for histories)      ``EXACT`` (nothing is lost)
===========  =============================  ===========================
``:name``    ``"name"``                     ``Keyword("name")``
``name``     ``"name"``                     ``Symbol("name")``
``#tag x``   ``x``                          ``Tagged("tag", x)``
``[1 2]``    ``[1, 2]``                     ``[1, 2]``
``(1 2)``    ``[1, 2]``                     ``(1, 2)``
``#{1 2}``   ``[1, 2]``, as printed         ``frozenset({1, 2})``
===========  =============================  ===========================

In both, ``nil`` is None (and differs from ``[]``), a character is a string of
one, a ratio a ``Fraction``, ``1.5M`` a ``Decimal``, ``12N`` an int.  Containers
that are map keys or set elements become tuples and frozensets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Any, Final

from splitvote.harness.errors import HistoryError

_CHUNK_CHARS: Final = 1 << 20
_CACHED_ATOMS: Final = 1 << 16
_CACHED_RUNS: Final = 1 << 12
_CACHED_DIGITS: Final = 4

# A run is atoms with nothing but space between them; a leaf is a vector that holds one run or nothing.
_TOKEN: Final = re.compile(
    r"""
      \[ [^"()\[\]{};\\^\#]* \]                                            # a leaf
    | [^\s,"()\[\]{};\\^\#] [^"()\[\]{};\\^\#]*                              # a run, and where
      (?: (?<![\s,]) \# [^\s,"()\[\]{};\\^]* [^"()\[\]{};\\^\#]* )*           # an atom in it holds a #
    | "[^"\\]*(?:\\.[^"\\]*)*"?                                            # a string, or all that is left of it
    | ;[^\n]*                                                              # a comment
    | \#\{ | \#_ | [\[\](){}^]
    | \\(?:[^\s,"()\[\]{};\\^]+|.)                                        # a character
    | \# [^\s,"()\[\]{};\\^]*                                             # a tag, or ##Inf
    | \\                                                                  # a character that the end cut off
    """,
    re.VERBOSE | re.DOTALL,
)
_INT: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)N?|[+-]?0[xX][0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?M?", re.ASCII)
_RATIO: Final = re.compile(r"[+-]?[0-9]+/[0-9]+", re.ASCII)
_NUMBER_START: Final = re.compile(r"[+-]?[0-9]", re.ASCII)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([0-3]?[0-7]{1,2})|(.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/", "'": "'"}
_CHARACTERS: Final = {
    "newline": "\n",
    "return": "\r",
    "space": " ",
    "tab": "\t",
    "formfeed": "\f",
    "backspace": "\b",
}
_CONSTANTS: Final[dict[str, Any]] = {
    "nil": None,
    "true": True,
    "false": False,
    "##Inf": float("inf"),
    "##-Inf": float("-inf"),
    "##NaN": float("nan"),
}
_CLOSERS: Final = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_CLOSING: Final = frozenset("}])")
_NOT_RUNS: Final = frozenset('"\\#^;')


class Keyword(str):
    """An EDN keyword, without its colon."""

    __slots__ = ()


class Symbol(str):
    """An EDN symbol."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tagged element whose tag has no meaning to the reader."""

    tag: str
    value: Any


@dataclass(frozen=True, slots=True)
class Reading:
    """What becomes of the EDN types that Python has no like of."""

    keyword: Callable[[str], Any]
    symbol: Callable[[str], Any]
    tagged: Callable[[str, Any], Any]
    list_of: Callable[[list[Any]], Any]
    set_of: Callable[[list[Any]], Any]


PLAIN: Final = Reading(
    keyword=str, symbol=str, tagged=lambda _, value: value, list_of=lambda items: items, set_of=lambda items: items
)
EXACT: Final = Reading(
    keyword=Keyword,
    symbol=Symbol,
    tagged=Tagged,
    list_of=tuple,
    set_of=lambda items: frozenset(map(hashable, items)),
)


class EdnError(HistoryError):
    """Text that is no EDN; ``line`` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


class RecordProblem(ValueError):
    """Raised by a ``record`` callback; the reader adds the line."""


def read_forms(
    text: str, reading: Reading = PLAIN, *, record: Callable[[dict[Any, Any]], Any] | None = None
) -> Iterator[Any]:
    """Yield every top-level form of the text.

    ``record`` replaces each map that stands at the top, or directly inside a
    vector or list at the top (the two shapes of a history), as it is read, so
    that the maps of a long history never live together; it must be pure, since
    ``#_`` may yet drop what it made.  Raises EdnError.
    """
    return _Reader(text, reading, record).forms()


def read_form(text: str, reading: Reading = PLAIN) -> Any:
    """Read the only form of the text; raises EdnError when there is none or more."""
    forms = list(read_forms(text, reading))
    if len(forms) != 1:
        raise EdnError(1, f"expected one EDN form, found {len(forms)}: {text[:60]!r}")
    return forms[0]


def hashable(value: Any) -> Any:
    """The value as a map key or set element: lists as tuples, maps and sets as frozensets."""
    if isinstance(value, (list, tuple)):
        return tuple(map(hashable, value))
    if isinstance(value, dict):
        return frozenset((key, hashable(item)) for key, item in value.items())
    if isinstance(value, Tagged):
        return Tagged(value.tag, hashable(value.value))
    return value


@dataclass(frozen=True, slots=True)
class _Mark:
    """A tag, discard or metadata sign standing before the form it applies to."""

    sign: str


class _Problem(Exception):
    """A fault in the text at the token in hand, or at an atom in it."""

    def __init__(self, problem: str, atom: str = "") -> None:
        super().__init__(problem)
        self.atom = atom


class _Atoms(dict[str, Any]):
    """Values of atoms by their text; those not met before are read on the way."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(_CONSTANTS)
        self._reading = reading

    def __missing__(self, atom: str) -> Any:
        if atom.isdecimal() and atom.isascii() and (atom[0] != "0" or len(atom) == 1):
            value: Any = int(atom)
            if len(atom) > _CACHED_DIGITS:
                return value  # a time or a counter: it will not come again
        else:
            value = self._read(atom)
        if len(self) < _CACHED_ATOMS:
            self[atom] = value
        return value

    def _read(self, atom: str) -> Any:
        if atom[0] == ":":
            if len(atom) == 1:
                raise _Problem("':' without a name is no keyword", atom)
            return self._reading.keyword(atom[1:])
        if _NUMBER_START.match(atom):
            return _number(atom)
        return self._reading.symbol(atom)


class _Reader:
    def __init__(self, text: str, reading: Reading, record: Callable[[dict[Any, Any]], Any] | None) -> None:
        self._text = text
        self._reading = reading
        self._record = record
        self._atoms = _Atoms(reading)
        self._runs: dict[str, list[Any]] = {}
        self._top: list[Any] = []
        self._stack: list[list[Any]] = [self._top]
        self._openers: list[str] = []
        self._marked: set[int] = set()  # depths whose container holds marks

    def forms(self) -> Iterator[Any]:
        """Parse chunk by chunk, yielding the top-level forms of each."""
        for start, tokens in self._chunks():
            upcoming = iter(tokens)
            try:
                self._consume(upcoming)
            except (_Problem, RecordProblem) as problem:
                place = len(tokens) - length_hint(upcoming) - 1
                atom = problem.atom if isinstance(problem, _Problem) else ""
                raise EdnError(self._line_of_token(start, place, atom), str(problem)) from None
            if not self._openers and 0 not in self._marked:
                yield from self._top
                self._top.clear()
        if self._openers:
            raise EdnError(
                self._line_of_unclosed(),
                f"the text ends inside the {self._openers[-1]!r} opened here; the file is cut off: "
                "remove its incomplete end",
            )
        try:
            yield from self._settled(self._top, 0)
        except _Problem as problem:
            raise EdnError(self._text.count("\n") + 1, str(problem)) from None

    def _chunks(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (start, tokens) of pieces cut at line ends; a string that is cut goes to the next piece whole."""
        text, size = self._text, len(self._text)
        start, end = 0, 0
        while start < size:
            newline = text.find("\n", max(start, end) + _CHUNK_CHARS)
            end = size if newline < 0 else newline + 1
            tokens = _TOKEN.findall(text, start, end)
            after = end
            if tokens and tokens[-1][0] == '"' and not _is_whole_string(tokens[-1]):
                if end == size:
                    line = text.count("\n", 0, size - len(tokens[-1])) + 1
                    raise EdnError(line, 'a string begins here and never ends; add the missing " or cut the file here')
                after = end - len(tokens.pop())
            yield start, tokens
            start = after

    def _line_of_token(self, start: int, place: int, atom: str) -> int:
        token = next(islice(_TOKEN.finditer(self._text, start), place, None))
        within = max(0, token.group().find(atom))
        return self._text.count("\n", 0, token.start() + within) + 1

    def _line_of_unclosed(self) -> int:
        opened: list[int] = []
        for match in _TOKEN.finditer(self._text):
            if match.group() in _CLOSERS:
                opened.append(match.start())
            elif match.group() in _CLOSERS.values():
                opened.pop()
        return self._text.count("\n", 0, opened[-1]) + 1

    def _consume(self, tokens: Iterable[str]) -> None:
        """Push atoms, open and close containers (the hot loop)."""
        openers, stack, runs, atom = self._openers, self._stack, self._runs, self._atoms.__getitem__
        items = stack[-1]
        for token in tokens:
            first = token[0]
            if first in _CLOSING:
                closed = self._close(token)
                items = stack[-1]
                items.append(closed)
            elif first == "[" and len(token) > 1:
                items.append(list(map(atom, token[1:-1].replace(",", " ").split())))
            elif token in _CLOSERS:
                openers.append(token)
                items = []
                stack.append(items)
            elif first in _NOT_RUNS:
                self._take_other(token, first)
            elif token in runs:
                items += runs[token]
            else:
                values = list(map(atom, token.replace(",", " ").split()))
                items += values
                if len(runs) < _CACHED_RUNS:
                    runs[token] = values

    def _take_other(self, token: str, first: str) -> None:
        """Push a string, a character or ##Inf; note a mark; pass over a comment."""
        items = self._stack[-1]
        if first == '"':
            items.append(_string(token))
        elif first == "\\":
            items.append(_character(token))
        elif token.startswith("##"):
            if token not in _CONSTANTS:
                raise _Problem(f"unknown symbolic value {token!r}")
            items.append(_CONSTANTS[token])
        elif first != ";":
            if token == "#":
                raise _Problem("'#' before a string is a regular expression, which EDN has not")
            self._marked.add(len(self._stack) - 1)
            items.append(_Mark(token))

    def _close(self, closer: str) -> Any:
        openers = self._openers
        if not openers:
            raise _Problem(f"{closer!r} closes nothing")
        opener = openers.pop()
        if _CLOSERS[opener] != closer:
            raise _Problem(f"{closer!r} where {_CLOSERS[opener]!r} should close {opener!r}")
        items = self._stack.pop()
        if self._marked and len(self._stack) in self._marked:
            items = self._settled(items, len(self._stack))
        if opener == "[":
            return items
        if opener == "{":
            made = _map_of(items)
            if self._record is not None and len(openers) < 2 and self._is_record_place():
                return self._record(made)
            return made
        return self._reading.list_of(items) if opener == "(" else self._reading.set_of(items)

    def _is_record_place(self) -> bool:
        """Whether the map just closed is at the top or directly inside a vector or list at the top."""
        before = self._stack[-1]
        if before and before[-1].__class__ is _Mark and before[-1].sign in ("#_", "^"):
            return False  # a comment, or metadata of the form that follows
        return not self._openers or self._openers[0] in "[("

    def _settled(self, items: list[Any], depth: int) -> list[Any]:
        """Apply the marks among a container's items, last first, so that a mark finds its form already whole."""
        self._marked.discard(depth)
        settled: list[Any] = []
        for item in reversed(items):
            if not isinstance(item, _Mark):
                settled.append(item)
                continue
            if not settled:
                raise _Problem(f"nothing follows {item.sign!r}")
            form = settled.pop()
            if item.sign[0] == "#" and item.sign != "#_":
                settled.append(self._tagged(item.sign[1:], form))
            elif item.sign == "^" and not settled:
                raise _Problem("metadata (^) with no form after it")
        settled.reverse()
        return settled

    def _tagged(self, tag: str, form: Any) -> Any:
        if tag.startswith(":") and isinstance(form, dict):  # a namespaced map
            return {self._qualified(tag.lstrip(":"), key): value for key, value in form.items()}
        return self._reading.tagged(tag, form)

    def _qualified(self, namespace: str, key: Any) -> Any:
        if isinstance(key, str) and "/" not in key:
            return self._reading.keyword(f"{namespace}/{key}")
        return key


def _is_whole_string(token: str) -> bool:
    if len(token) < 2 or token[-1] != '"':
        return False
    backslashes = len(token) - 1 - len(token[:-1].rstrip("\\"))
    return backslashes % 2 == 0


def _map_of(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _Problem(f"a map with {len(items)} forms: a key without a value")
    keys, values = items[::2], items[1::2]
    try:
        made = dict(zip(keys, values, strict=True))
    except TypeError:
        made = dict(zip(map(hashable, keys), values, strict=True))
    if len(made) != len(keys):
        raise _Problem("a map with the same key twice")
    return made


def _string(token: str) -> str:
    body = token[1:-1]
    return _ESCAPE.sub(_unescape, body) if "\\" in body else body


def _unescape(match: re.Match[str]) -> str:
    code, octal, letter = match.groups()
    if code is not None:
        return chr(int(code, 16))
    if octal is not None:
        return chr(int(octal, 8))
    if letter not in _ESCAPES:
        raise _Problem(f"unknown escape \\{letter} in a string")
    return _ESCAPES[letter]


def _character(token: str) -> str:
    name = token[1:]
    if len(name) == 1:
        return name
    if name in _CHARACTERS:
        return _CHARACTERS[name]
    if re.fullmatch(r"u[0-9a-fA-F]{4}", name):
        return chr(int(name[1:], 16))
    if re.fullmatch(r"o[0-3]?[0-7]{1,2}", name):
        return chr(int(name[1:], 8))
    raise _Problem(f"unknown character {token!r}")


def _number(token: str) -> Any:
    if _INT.fullmatch(token):
        return int(token.rstrip("N"), 0) if "x" in token or "X" in token else int(token.rstrip("N"))
    if _FLOAT.fullmatch(token):
        if token[-1] == "M":
            from decimal import Decimal

            return Decimal(token[:-1])
        return float(token)
    if _RATIO.fullmatch(token):
        from fractions import Fraction

        numerator, denominator = token.split("/")
        if int(denominator) == 0:
            raise _Problem(f"{token!r} divides by zero", token)
        return Fraction(int(numerator), int(denominator))
    raise _Problem(f"{token!r} begins like a number but is none", token)
