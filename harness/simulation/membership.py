"""Who is a member, as applied from the log; which changes are refused (etcd's membership.RaftCluster)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from splitvote.harness.simulation.interface import MemberInfo
from splitvote.harness.simulation.messages import ConfChange, Publish, RaftSnapshot
from splitvote.harness.simulation.refusals import (
    MEMBER_EXISTS,
    MEMBER_NOT_FOUND,
    NOT_A_LEARNER,
    PEER_URL_EXISTS,
    TOO_MANY_LEARNERS,
    Refusal,
)

MOST_LEARNERS: Final = 1


class Membership:
    """The members by id, and the ids that are gone for good."""

    def __init__(self, members: Iterable[MemberInfo] = (), removed: Iterable[int] = ()) -> None:
        self._members = {member.id: member for member in members}
        self._removed = dict.fromkeys(removed)

    @classmethod
    def of(cls, snapshot: RaftSnapshot) -> Membership:
        """The members at a snapshot."""
        return cls(snapshot.members, snapshot.removed)

    def members(self) -> tuple[MemberInfo, ...]:
        """All members, by id."""
        return tuple(self._members[member] for member in sorted(self._members))

    @property
    def removed(self) -> tuple[int, ...]:
        """The ids that were removed, in that order."""
        return tuple(self._removed)

    def get(self, member_id: int) -> MemberInfo | None:
        """One member."""
        return self._members.get(member_id)

    def is_removed(self, member_id: int) -> bool:
        """Whether this id was a member and never will be again."""
        return member_id in self._removed

    def refusal(self, change: ConfChange) -> Refusal | None:
        """Why a committed change must not take effect, None when it may."""
        member = change.member
        known = self._members.get(member.id)
        if self.is_removed(member.id):
            return MEMBER_NOT_FOUND
        if change.kind in ("remove", "update"):
            return MEMBER_NOT_FOUND if known is None else None
        if known is not None:
            is_promotion = change.kind == "add" and not member.is_learner
            if not is_promotion:
                return MEMBER_EXISTS
            return None if known.is_learner else NOT_A_LEARNER
        if any(set(other.peer_urls) & set(member.peer_urls) for other in self._members.values()):
            return PEER_URL_EXISTS
        learners = sum(other.is_learner for other in self._members.values())
        return TOO_MANY_LEARNERS if change.kind == "add_learner" and learners >= MOST_LEARNERS else None

    def apply(self, change: ConfChange) -> None:
        """Take over a change that was not refused."""
        member = change.member
        if change.kind == "remove":
            del self._members[member.id]
            self._removed[member.id] = None
        elif change.kind == "update":
            self._members[member.id] = msgspec.structs.replace(self._members[member.id], peer_urls=member.peer_urls)
        else:
            known = self._members.get(member.id, member)
            is_learner = change.kind == "add_learner"
            self._members[member.id] = msgspec.structs.replace(known, is_learner=is_learner)

    def publish(self, told: Publish) -> None:
        """A member that has started told its name and where clients reach it."""
        known = self._members.get(told.member_id)
        if known is not None:
            self._members[told.member_id] = msgspec.structs.replace(known, name=told.name, client_urls=told.client_urls)
