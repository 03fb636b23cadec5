"""The errors splitvote raises about itself; each message shows the value, the place and what to do next.

A cluster that misbehaves is never an exception: it is a ``Result`` (see
``splitvote.harness.result``).  These types are for *our* side: bad input, a
missing tool, a fault that could not be proven, a history that cannot be read.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

OWN_FAILURE_EXIT: Final = 3
INTERRUPTED_EXIT: Final = 130


class SplitvoteError(Exception):
    """Anything splitvote raises on purpose; the command line prints it as one line, without a traceback."""

    exit_code = OWN_FAILURE_EXIT


class ConfigError(SplitvoteError):
    """The user asked for something impossible or misspelt (exit 64)."""

    exit_code = 64


class EnvironmentFailure(SplitvoteError):
    """The surroundings failed before or beside the test: no etcd, no leader before the start, a full disk (exit 3)."""


class TransportError(SplitvoteError):
    """An RPC did not succeed: ``code`` is the gRPC status name, ``message`` the server's or transport's words.

    Whether the call took effect is not decided here but by the error table of
    the system under test.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class NemesisError(SplitvoteError):
    """A fault could not be started, proven, ended or proven ended."""


class HistoryError(SplitvoteError):
    """A history is not readable or breaks the rules of pairing; the message names the line (exit 64)."""

    exit_code = 64


def unknown(what: str, given: str, known: Sequence[str]) -> str:
    """One line for a misspelt name, with the nearest known one."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"unknown {what} {given!r}" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}")
