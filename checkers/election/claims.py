"""What candidates did, as the history tells: whose value is which, and to which reign each operation belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op, Operation

WRITERS: Final = frozenset({"campaign", "proclaim", "write"})
DEPOSED: Final = "deposed"
"""The class of the error of a refused proclamation or write: the candidate's key is gone."""

NOT_LEADING: Final = "not-leading"
"""The class of the error of an operation that only a leader does, by a client that has won nothing: never sent."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A candidate's key, as its client knows it after a campaign that was ok."""

    campaign: Operation
    key: str
    created: int


class Claims:
    """The candidates' operations; ``claim_of`` is by the index of an operation's invoke, ``won`` by a campaign's."""

    def __init__(self, history: History) -> None:
        self.operations = history.operations
        self.by_value: dict[str, Operation] = {}
        self.won: dict[int, Claim] = {}
        self.claim_of: dict[int, Claim] = {}
        by_completion: dict[int, Operation] = {}
        for operation in self.operations:
            if operation.f in WRITERS:
                self.by_value[operation.invoke.value] = operation
            if operation.completion is not None:
                by_completion[operation.completion.index] = operation
        claims: dict[int, Claim] = {}
        for op in history:
            if op.process == NEMESIS or op.type == "event":
                continue
            if op.type == "invoke":
                if op.process in claims and op.f != "campaign":
                    self.claim_of[op.index] = claims[op.process]
            elif op.type == "ok" and op.f == "campaign":
                claim = _claim(by_completion[op.index])
                if claim is not None:
                    claims[op.process] = self.won[claim.campaign.invoke.index] = claim

    def ok(self, f: str) -> list[Operation]:
        """The operations of this kind that were ok."""
        return [operation for operation in self.operations if operation.f == f and operation.type == "ok"]


def _claim(campaign: Operation) -> Claim | None:
    extra = _extra(campaign.completion)
    key, created = extra.get("candidate_key"), extra.get("create_revision")
    return Claim(campaign, key, created) if isinstance(key, str) and isinstance(created, int) else None


def candidate_key(operation: Operation) -> str | None:
    """The key that a campaign contended with, where its completion tells."""
    key = _extra(operation.completion).get("candidate_key")
    return key if isinstance(key, str) else None


def is_refusal(operation: Operation) -> bool:
    """Whether a proclamation or write was refused because the leader's key was gone."""
    completion = operation.completion
    return completion is not None and completion.type == "fail" and (completion.error or "").startswith(DEPOSED)


def _extra(op: Op | None) -> dict[str, object]:
    return {} if op is None or op.extra is None else op.extra
