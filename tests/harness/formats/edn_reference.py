"""A second EDN reader for differential tests: a character at a time, recursive, slow, sharing only the types."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from splitvote.harness.formats.edn import Keyword, Symbol, Tagged, hashable

SPACE = " \t\r\n\f,"
ENDS = SPACE + '()[]{}"\\;^'
NOTHING = object()
NAMED = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t", "formfeed": "\f", "backspace": "\b"}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}


class Cursor:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        self.at += 1
        return self.text[self.at - 1]

    def skip_blank(self) -> None:
        while self.peek() and (self.peek() in SPACE or self.peek() == ";"):
            if self.peek() == ";":
                while self.peek() not in ("", "\n"):
                    self.at += 1
            else:
                self.at += 1

    def word(self) -> str:
        start = self.at
        while self.peek() and self.peek() not in ENDS:
            self.at += 1
        return self.text[start : self.at]


def read_all(text: str) -> list[Any]:
    cursor = Cursor(text)
    return items_until(cursor, "")


def items_until(cursor: Cursor, closer: str) -> list[Any]:
    items = []
    while True:
        cursor.skip_blank()
        if cursor.peek() == closer:
            cursor.at += 1
            return items
        item = form(cursor)
        if item is not NOTHING:
            items.append(item)


def following(cursor: Cursor) -> Any:
    while True:
        cursor.skip_blank()
        item = form(cursor)
        if item is not NOTHING:
            return item


def form(cursor: Cursor) -> Any:
    start = cursor.peek()
    if start == '"':
        return string(cursor)
    if start == "\\":
        cursor.at += 1
        first = cursor.take()
        name = first + cursor.word()
        return name if len(name) == 1 else NAMED[name] if name in NAMED else chr(int(name[1:], 16))
    if start in "([{":
        cursor.at += 1
        items = items_until(cursor, {"(": ")", "[": "]", "{": "}"}[start])
        return made_of(start, items)
    if start == "#":
        return dispatch(cursor)
    if start == "^":
        cursor.at += 1
        following(cursor)
        return following(cursor)
    return atom(cursor.word())


def made_of(start: str, items: list[Any]) -> Any:
    if start == "(":
        return tuple(items)
    if start == "[":
        return items
    return {hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def string(cursor: Cursor) -> str:
    cursor.at += 1
    out = []
    while (letter := cursor.take()) != '"':
        if letter == "\\":
            letter = cursor.take()
            if letter == "u":
                out.append(chr(int(cursor.text[cursor.at : cursor.at + 4], 16)))
                cursor.at += 4
            else:
                out.append(ESCAPES[letter])
        else:
            out.append(letter)
    return "".join(out)


def dispatch(cursor: Cursor) -> Any:
    cursor.at += 1
    if cursor.peek() == "{":
        cursor.at += 1
        return frozenset(map(hashable, items_until(cursor, "}")))
    if cursor.peek() == "_":
        cursor.at += 1
        following(cursor)
        return NOTHING
    if cursor.peek() == "#":
        return {"#Inf": float("inf"), "#-Inf": float("-inf")}[cursor.word()]
    tag = cursor.word()
    return Tagged(tag, following(cursor))


def atom(word: str) -> Any:
    if word in ("nil", "true", "false"):
        return {"nil": None, "true": True, "false": False}[word]
    if word.startswith(":"):
        return Keyword(word[1:])
    if re.match(r"[+-]?\d", word):
        if "/" in word:
            return Fraction(word)
        if word.endswith("M"):
            return Decimal(word[:-1])
        if re.search(r"[.eE]", word):
            return float(word)
        return int(word.rstrip("N"))
    return Symbol(word)
