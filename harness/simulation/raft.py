"""Raft, as etcd has it: a state machine that is stepped with messages and ticks and does no IO.

Pre-vote and check-quorum are on, reads are confirmed by a heartbeat quorum
(ReadIndex), a follower's conflict tells the leader where to go on, a follower
that lacks compacted entries gets a snapshot, the lead can be transferred, and
members change one at a time.

Here: terms, roles, elections.  What leaders and followers do with the rest is in
``leader`` and ``follower``.  What is to be sent collects in ``messages``;
``node`` takes it from there in the order that is safe.

Source: Ongaro's thesis, and etcd's raft/raft.go of 3.5, whose functions have
the same names, less joint consensus and flow control by bytes.
"""

from __future__ import annotations

from typing import Final, Literal

from splitvote.harness.simulation import follower, leader
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.leader import ProposalDroppedError
from splitvote.harness.simulation.log import RaftLog
from splitvote.harness.simulation.messages import (
    ENTRY_BYTES,
    NONE,
    ConfChange,
    ConfState,
    HardState,
    Message,
    MessageType,
    ReadState,
)
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.progress import Progress
from splitvote.harness.simulation.read_only import ReadOnly

__all__ = ["ProposalDroppedError", "Raft"]

Role = Literal["follower", "pre-candidate", "candidate", "leader"]

CAMPAIGN_TRANSFER: Final = 1
"""The context of a vote that a leader's own transfer asked for, which the lease of a leader does not hold up."""

_LEADERS_OWN: Final = ("MsgApp", "MsgHeartbeat", "MsgSnap")


class Raft:
    """One member's raft.

    ``log``, ``progress`` (what a leader knows of each member, itself included),
    ``read_only`` and the like are open to ``leader`` and ``follower``; to
    everybody else this is ``step``, ``tick``, ``apply_conf_change`` and what can
    be read.
    """

    def __init__(
        self,
        *,
        member_id: int,
        log: RaftLog,
        hard_state: HardState,
        conf_state: ConfState,
        election_ticks: int,
        heartbeat_ticks: int,
        chance: Chance,
        mutants: Mutants,
    ) -> None:
        self.id = member_id
        self.log = log
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.role: Role = "follower"
        self.lead = NONE
        self.lead_transferee = NONE
        self.messages: list[Message] = []
        self.read_states: list[ReadState] = []
        self.progress: dict[int, Progress] = {}
        self.voters: tuple[int, ...] = ()
        self.read_only = ReadOnly()
        self.postponed_reads: list[Message] = []
        self.pending_conf_index = 0
        self.held_from: int | None = None
        """Mutant: from where on a new leader does not send its log yet, and for how many checks of its quorum."""

        self.held_checks = 0
        self.election_elapsed = 0
        self.mutants = mutants
        self._election_ticks = election_ticks
        self._heartbeat_ticks = heartbeat_ticks
        self._chance = chance
        self._votes: dict[int, bool] = {}
        self._heartbeat_elapsed = 0
        self._randomized_timeout = 0
        self.configure(conf_state)
        self.become_follower(self.term, NONE)

    # Configuration

    def configure(self, conf_state: ConfState) -> None:
        """Take over a configuration, keeping what is known of members that stay."""
        before = self.progress
        last = self.log.last
        self.voters = conf_state.voters
        self.progress = {}
        for member in sorted((*conf_state.voters, *conf_state.learners)):
            known = before.get(member)
            if known is None:
                known = Progress(match=last if member == self.id else 0, next_index=max(last, 1), is_learner=False)
                known.is_recently_active = True  # or check-quorum would count a newcomer as lost at once
            known.is_learner = member in conf_state.learners
            self.progress[member] = known

    @property
    def conf_state(self) -> ConfState:
        """The current configuration."""
        return ConfState(self.voters, tuple(m for m, progress in self.progress.items() if progress.is_learner))

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Change the configuration by one member, as its committed entry says; the new one."""
        before = self.conf_state
        member = change.member.id
        voters = [voter for voter in before.voters if voter != member or change.kind == "update"]
        learners = [learner for learner in before.learners if learner != member or change.kind == "update"]
        if change.kind == "add":
            voters.append(member)
        elif change.kind == "add_learner":
            learners.append(member)
        after = ConfState(tuple(sorted(voters)), tuple(sorted(learners)))
        self.configure(after)
        if self.role == "leader":
            leader.after_conf_change(self)
        return after

    @property
    def is_learner(self) -> bool:
        """Whether this member is a learner in its own view."""
        own = self.progress.get(self.id)
        return own is not None and own.is_learner

    @property
    def _is_promotable(self) -> bool:
        own = self.progress.get(self.id)
        return own is not None and not own.is_learner and self.log.pending_snapshot is None

    @property
    def hard_state(self) -> HardState:
        """What has to be on disk."""
        return HardState(self.term, self.vote, self.log.committed)

    # Roles

    def _reset(self, term: int) -> None:
        if term != self.term:
            self.term, self.vote = term, NONE
        self.lead = self.lead_transferee = NONE
        self.held_from = None
        self.election_elapsed = self._heartbeat_elapsed = 0
        self._randomized_timeout = self._election_ticks + self._chance.below(self._election_ticks)
        if self.mutants.has("two-votes-in-one-term"):
            self._randomized_timeout = self._election_ticks  # several stand at once: there is a second to vote for
        self._votes = {}
        last = self.log.last
        for member, known in self.progress.items():
            match = last if member == self.id else 0
            self.progress[member] = Progress(match=match, next_index=last + 1, is_learner=known.is_learner)
        self.pending_conf_index = 0
        self.read_only = ReadOnly()
        self.postponed_reads = []

    def become_follower(self, term: int, lead: int) -> None:
        """Follow ``lead``, or nobody yet."""
        self.role = "follower"
        self._reset(term)
        self.lead = lead

    def _become_leader(self) -> None:
        self.role = "leader"
        self._reset(self.term)
        self.lead = self.id
        self.progress[self.id].become_replicate()
        self.pending_conf_index = self.log.last
        if self.mutants.has("commit-by-counting-in-an-old-term"):
            self.held_from, self.held_checks = self.log.last + 1, leader.HELD_CHECKS
        leader.append_entries(self, [None], [ENTRY_BYTES])
        leader.broadcast_append(self)

    # Ticks

    def tick(self) -> None:
        """A tick of the clock has passed."""
        self.election_elapsed += 1
        if self.role == "leader":
            self._tick_leader()
        elif self._is_promotable and self.election_elapsed >= self._randomized_timeout:
            self.election_elapsed = 0
            self.step(Message("MsgHup", source=self.id))

    def _tick_leader(self) -> None:
        self._heartbeat_elapsed += 1
        if self.election_elapsed >= self._election_ticks:
            self.election_elapsed = 0
            self.step(Message("MsgCheckQuorum", source=self.id))
            self.lead_transferee = NONE  # it took too long
        if self.role == "leader" and self._heartbeat_elapsed >= self._heartbeat_ticks:
            self._heartbeat_elapsed = 0
            self.step(Message("MsgBeat", source=self.id))

    # Steps

    def step(self, message: Message) -> None:
        """Take one message; raises ProposalDroppedError for a proposal that cannot be taken."""
        term = message.term
        if term > self.term:
            if not self._step_higher_term(message):
                return
        elif term and term < self.term:
            self._step_lower_term(message)
            return
        kind = message.type
        if kind == "MsgHup":
            self.hup(is_transfer=False)
        elif kind == "MsgVote" or kind == "MsgPreVote":
            self._step_vote(message)
        elif self.role == "leader":
            step = leader.STEPS.get(kind)
            if step is not None:
                step(self, message)
        elif self.role == "follower":
            step = follower.STEPS.get(kind)
            if step is not None:
                step(self, message)
        else:
            self._step_candidate(message)

    def _step_higher_term(self, message: Message) -> bool:
        """Go to a higher term; False where the message is to be ignored."""
        kind = message.type
        if kind in ("MsgVote", "MsgPreVote"):
            has_leader = self.lead != NONE and self.election_elapsed < self._election_ticks
            if has_leader and message.context != CAMPAIGN_TRANSFER:
                return False  # whoever cannot hear the leader must not depose it
        if kind == "MsgPreVote" or (kind == "MsgPreVoteResp" and not message.is_reject):
            return True  # nobody's term rises for a vote that does not count
        self.become_follower(message.term, message.source if kind in _LEADERS_OWN else NONE)
        return True

    def _step_lower_term(self, message: Message) -> None:
        if message.type in ("MsgHeartbeat", "MsgApp"):
            # A leader of an old term that cannot be deposed by votes (they are ignored) hears of the new term so.
            self.messages.append(Message("MsgAppResp", message.source, self.id, self.term))
        elif message.type == "MsgPreVote":
            self.messages.append(Message("MsgPreVoteResp", message.source, self.id, self.term, is_reject=True))

    def _step_vote(self, message: Message) -> None:
        is_real = message.type == "MsgVote"
        can_vote = (
            self.vote == message.source
            or (self.vote == NONE and self.lead == NONE)
            or (not is_real and message.term > self.term)
        )
        if not can_vote and is_real and self.role == "follower" and self.vote != NONE:
            can_vote = self.mutants.fires("two-votes-in-one-term")
        answer: MessageType = "MsgVoteResp" if is_real else "MsgPreVoteResp"
        if can_vote and self.log.is_up_to_date(message.index, message.log_term):
            # The term of the vote asked for: a pre-vote's is higher than our own.
            self.messages.append(Message(answer, message.source, self.id, message.term))
            if is_real:
                self.election_elapsed = 0
                self.vote = message.source
        else:
            self.messages.append(Message(answer, message.source, self.id, self.term, is_reject=True))

    # Elections

    def hup(self, *, is_transfer: bool) -> None:
        """Stand for election, if this member may: at once when the leader asked for it, else after a pre-vote."""
        if self.role == "leader" or not self._is_promotable:
            return
        unapplied = self.log.slice(self.log.applied + 1, self.log.committed)
        if any(isinstance(entry.data, ConfChange) for entry in unapplied):
            return
        if is_transfer:
            self._campaign("MsgVote", CAMPAIGN_TRANSFER)
        else:
            self._campaign("MsgPreVote", 0)

    def _campaign(self, kind: Literal["MsgVote", "MsgPreVote"], context: int) -> None:
        term = self.term + 1
        if kind == "MsgPreVote":
            self.role = "pre-candidate"
            self._votes = {}
            self.lead = NONE
        else:
            self.role = "candidate"
            self._reset(term)
            self.vote = self.id
        if self._poll(self.id, is_granted=True) == "won":
            self._win(kind)
            return
        log = self.log
        for voter in self.voters:
            if voter != self.id:
                self.messages.append(Message(kind, voter, self.id, term, log.last_term, log.last, context=context))

    def _poll(self, voter: int, *, is_granted: bool) -> Literal["won", "lost", "pending"]:
        self._votes.setdefault(voter, is_granted)
        granted = sum(self._votes.get(voter, False) for voter in self.voters)
        refused = sum(not self._votes.get(voter, True) for voter in self.voters)
        quorum = len(self.voters) // 2 + 1
        if granted >= quorum:
            return "won"
        return "lost" if refused > len(self.voters) - quorum else "pending"

    def _win(self, kind: Literal["MsgVote", "MsgPreVote"]) -> None:
        if kind == "MsgPreVote":
            self._campaign("MsgVote", 0)
        else:
            self._become_leader()

    def _step_candidate(self, message: Message) -> None:
        kind = message.type
        if kind == "MsgProp":
            raise ProposalDroppedError
        if kind in _LEADERS_OWN:
            self.become_follower(message.term, message.source)
            follower.STEPS[kind](self, message)
            return
        asked_for: Literal["MsgVote", "MsgPreVote"] = "MsgPreVote" if self.role == "pre-candidate" else "MsgVote"
        if kind == f"{asked_for}Resp":
            result = self._poll(message.source, is_granted=not message.is_reject)
            if result == "won":
                self._win(asked_for)
            elif result == "lost":
                self.become_follower(self.term, NONE)
