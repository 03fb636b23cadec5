"""Whether a member that is started goes on with its data, or joins a cluster that there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from splitvote.harness.errors import NemesisError

Content = Literal["log", "other", "blank"]
"""What there is of a member's data: a write-ahead log, without which etcd starts it as if for the first time; or
something else; or nothing at all."""

Joining = Callable[[str], Awaitable[Mapping[str, str] | None]]
"""The members (name: peer URL) of the cluster that a node without data is to join; None where it makes a new one."""


async def whom_to_join(node: str, content: Content, joining: Joining) -> Mapping[str, str] | None:
    """None for a member that goes on with its data, be it damaged: what to make of that is for etcd to say.

    Raises NemesisError where a member without any data cannot be told whom to join.
    """
    if content == "log":
        return None
    try:
        return await joining(node)
    except NemesisError:
        if content == "blank":
            raise
        return None
