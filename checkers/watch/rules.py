"""What one watch promises, record by record; ETCD.md has the promises, and each is judged under its name.

*ordered*: revisions never decrease.  *unique*: no event comes twice.  *atomic*:
a revision's events come in one answer, or, where fragments were asked for, in
answers that say that they go on.  *bookmarkable*: after progress at revision R
no event <= R comes (etcd issue 15220).  *filter*: nothing comes that was not
asked for.  *start revision*: nothing from before the start.  *phantom*: every
event is one of the store's.  *is-create*: create revision and version are the
store's.  *prev_kv*: the previous state is the store's at the revision before;
it may be missing only where that may have been compacted.  *resumable*: the
first event is the first there is from the start on.  *reliable*: nothing is
left out up to the last event or progress.  *compacted*: the server ends a watch
only because what it needs next is compacted, saying so with the compact
revision, or because it was asked to; and it serves no compacted start.

An event is judged by the first of these that it breaks, so that one wrong event
has one name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.compactions import Compactions
from splitvote.checkers.findings import MOST_TOLD, Findings
from splitvote.checkers.watch.logs import WatchLog
from splitvote.checkers.watch.plan import Told
from splitvote.checkers.watch.truth import WatchTruth
from splitvote.harness.op import Op

MOST_MISSING: Final = 10


class WatchJudge:
    """Judges one watch's log, which the server may have ended for ``reasons`` that have these words.

    Afterwards ``upto`` says how far it got, ``late`` how many answers came
    after its end.
    """

    def __init__(
        self,
        log: WatchLog,
        truth: WatchTruth,
        compactions: Compactions,
        findings: Findings,
        *,
        reasons: Sequence[str] = (),
    ) -> None:
        self._log = log
        self._reasons = reasons
        self._truth = truth
        self._compactions = compactions
        self._findings = findings
        self._seen: dict[tuple[int, str], Op] = {}
        self._confirmed = 0
        self._owed_from = log.first
        self._first: tuple[int, Op] | None = None
        self._last = 0
        self._last_op: Op | None = None
        self._continues = False
        self._bookmark = 0
        self._bookmark_op: Op | None = None
        self._is_cancelling = False
        self._compacted = compactions.certain_at(log.created.revision or 0)
        self._must_be_refused = 0 < log.asked < self._compacted
        self.is_canceled = False
        self.late = 0

    def run(self) -> None:
        """Judge every record, then what is missing."""
        for op in self._log.records:
            kind = op.value[0]
            if self.is_canceled:
                self.late += kind == "events"  # no promise says that a watch falls silent at once
            elif kind == "events":
                self._take_events(op)
            elif kind == "progress":
                self._take_progress(op)
            elif kind == "cancelling":
                self._is_cancelling = True
            elif kind == "canceled":
                self._take_cancel(op)
        self._find_gaps()

    @property
    def upto(self) -> int:
        """The last revision whose events have all been told, as far as the watch itself says."""
        return max(self._last - self._continues, self._bookmark)

    def missing(self, last: int) -> list[Told]:
        """The events that it owes up to a revision, and has not told; none beyond what is known."""
        first, last = self._owed_from, min(last, self._truth.known)
        expected = self._truth.expected(self._log.watched)
        if expected.count(first, last) == self._confirmed and last >= min(self._last, self._truth.known):
            return []
        return [event for event in expected.between(first, last) if (event[0], event[1]) not in self._seen]

    # Events

    def _take_events(self, op: Op) -> None:
        _, _, continues, events, *rest = op.value
        befores: list[Told | None] = rest[0] if rest else [None] * len(events)
        if continues and not self._log.watched.fragment:
            self._tell("atomic", "was given a fragment, though it asked for none", [op])
        for event, before in zip(events, befores, strict=True):
            self._take_event(op, event, before)
        self._continues = bool(continues)
        if events and self._must_be_refused:
            self._must_be_refused = False
            what = f"was served, though this member had compacted up to {self._compacted} before it created it"
            self._tell("compacted", what, [_cut_down(op, events[0])])

    def _take_event(self, op: Op, event: Told, before: Told | None) -> None:
        revision, key = event[0], event[1]
        watched = self._log.watched
        if not (watched.covers(key) and watched.wants(event)):
            self._tell_event("filter", "which it did not ask for", op, event)
            return
        if revision <= self._log.floor:
            self._tell_event("start revision", f"and it began after revision {self._log.floor}", op, event)
            return
        place = (revision, key)
        if place in self._seen:
            self._tell_event("unique", "which it had been told before", op, event, self._seen[place])
            return
        self._seen[place] = op
        self._confirmed += self._truth.event(revision, key) is not None
        if self._first is None:
            self._first = revision, op
            self._owed_from = min(self._owed_from, revision)  # a watch from now that began before its answer
        if not self._is_misplaced(op, event):
            self._check_content(op, event, before)
        if revision > self._last:
            self._last, self._last_op = revision, op

    def _is_misplaced(self, op: Op, event: Told) -> bool:
        """Tell of an event that comes too late, out of order or apart from its revision's others."""
        revision = event[0]
        if revision <= self._bookmark:
            what = f"after it had been told that there is nothing more up to revision {self._bookmark}"
            self._tell_event("bookmarkable", what, op, event, self._bookmark_op)
        elif revision < self._last:
            self._tell_event("ordered", f"after one of revision {self._last}", op, event, self._last_op)
        elif revision == self._last and self._last_op is not op and not self._continues:
            self._tell_event("atomic", "apart from others of that revision", op, event, self._last_op)
        else:
            return False
        return True

    def _check_content(self, op: Op, event: Told, before: Told | None) -> None:
        """Hold an event and its previous state against the store's history."""
        revision, key = event[0], event[1]
        if revision > self._truth.known:
            if self._truth.doubt is None:
                what = f"but at the end no member has any revision beyond {self._truth.known}"
                self._tell_event("phantom", what, op, event)
            else:
                self._findings.skipped += 1
            return
        is_so = self._truth.event(revision, key)
        if is_so is None:
            self._tell_event("phantom", "but the store's history has no such event", op, event)
        elif is_so != event:
            is_of_creation = is_so[2] == event[2] and is_so[5] == event[5]
            name = "is-create" if is_of_creation else "phantom"
            self._tell_event(name, f"but the store's history has {is_so}", op, event, expected=is_so)
        else:
            self._check_before(op, event, before)

    def _check_before(self, op: Op, event: Told, before: Told | None) -> None:
        revision, key = event[0], event[1]
        if not self._log.watched.prev_kv:
            if before is not None:
                self._tell_event("prev_kv", f"with {before} before it, which it did not ask for", op, event)
            return
        was = self._truth.before(revision, key)
        if before == was or (before is None and self._compactions.furthest_by(op.time_ns) >= revision):
            return
        what = f"with {before or 'nothing'} before it, where there was {was or 'nothing'}"
        self._tell_event("prev_kv", what, op, event, expected=was)

    # Progress and the end

    def _take_progress(self, op: Op) -> None:
        # A member that has ended a watch may speak of the others before it says so.
        is_about_others = self._is_cancelling and op.value[1] is None
        if not is_about_others and (op.revision or 0) >= self._bookmark:
            self._bookmark, self._bookmark_op = op.revision or 0, op

    def _take_cancel(self, op: Op) -> None:
        compacted, why = op.value[2], op.value[3]
        self.is_canceled = True
        # Progress does not count: a member that was sent a snapshot goes by the events alone.
        needed = max(self._log.floor, self._last - self._continues) + 1
        if not compacted:
            if not self._is_cancelling and not any(reason in why for reason in self._reasons):
                self._tell("compacted", f"was ended by the server for no reason that there can be ({why!r})", [op])
        elif compacted <= needed:
            what = f"was ended as compacted up to {compacted}, though it needed revision {needed} only"
            self._tell("compacted", what, [op])
        elif not self._compactions.is_possible(compacted, op.time_ns):
            what = f"was ended as compacted up to {compacted}, though nobody had compacted up to there"
            self._tell("compacted", what, [op])

    def _find_gaps(self) -> None:
        missing = self.missing(self.upto)
        if not missing:
            return
        event = missing[0]
        revision = event[0]
        if any((revision, other[1]) in self._seen for other in self._truth.at_revision[revision]):
            name, what, proof = "atomic", f"was told only a part of revision {revision}, and never of {event}", None
        elif revision > self._last:
            what = f"was told that there is nothing more up to revision {self._bookmark}, and never of {event}"
            name, proof = "reliable", self._bookmark_op
        elif self._log.asked and self._first is not None and revision < self._first[0]:
            name, what = "resumable", f"began with revision {self._first[0]}, though there was {event}"
            proof = _only(self._first[1], self._first[0])
        else:
            name, what, proof = "reliable", f"was told of revision {self._last}, and never of {event}", None
        if proof is None:
            assert self._last_op is not None
            proof = _only(self._last_op, self._last)
        self._tell(name, what, [proof], missing=missing[:MOST_MISSING], count=len(missing))

    # Telling

    def _tell(self, name: str, what: str, ops: list[Op], **details: Any) -> None:
        log = self._log
        shown = [log.operation.invoke, log.created, *ops]
        self._findings.add(
            f"watch: {name}", f"{log.title} {what}", shown, node=log.created.node, stream=log.created.stream, **details
        )

    def _tell_event(self, name: str, what: str, op: Op, event: Told, other: Op | None = None, **details: Any) -> None:
        if self._findings.counts[f"watch: {name}"] >= MOST_TOLD:  # there may be hundreds of thousands
            self._findings.counts[f"watch: {name}"] += 1
            return
        ops = [_cut_down(op, event)]
        if other is not None and other is not op:
            ops.append(_only(other, event[0], self._last) if other.value[0] == "events" else other)
        verb = "deleted" if event[2] is None else f"= {event[2]}"
        self._tell(name, f"was told of {event[1]} {verb} at revision {event[0]}, {what}", ops, event=event, **details)


def _only(op: Op, *revisions: int) -> Op:
    """A record of events with those of these revisions."""
    return _cut_down(op, *[event for event in op.value[3] if event[0] in revisions])


def _cut_down(op: Op, *events: Told) -> Op:
    """A record of events with these alone: an answer may hold a thousand."""
    return msgspec.structs.replace(op, value=[*op.value[:3], list(events)])
