"""The store's own history, judged once for the whole run, whatever workloads made it.

What is judged, on the archive (``splitvote.harness.archive``) and the samples:

- *one history*: no two members tell a revision differently, at any time, not
  only at the end;
- *dense*: every told revision changed something (in a store that others use too
  it may have been theirs), a key's version grows by one a put and starts at 1,
  its create revision stays until it is deleted, and a put's mod revision is the
  revision that made it;
- *known keys*: nobody but this run's workloads and the harness itself has
  written;
- *no return*: while a member's process lives, its revision and applied index
  never fall.  After a restart they may, for a while: what was not synced is
  replayed from the log (SOUNDNESS 11).  Not judged in a store that others use
  too: they may restart its members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from splitvote.checkers.restarts import Restart, restarts
from splitvote.harness.archive import Archive, StoreEvent
from splitvote.harness.op import Op
from splitvote.harness.recording import ClusterSample, FaultRecord, Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

NAME: Final = "store history"
MOST_TOLD: Final = 10
OWN_PREFIX: Final = "splitvote/"


class StoreHistoryChecker:
    """INVALID where the members' accounts contradict each other or themselves.

    ``prefixes`` are those of the run's workloads; None: any key may be there.
    """

    name = NAME

    def __init__(self, prefixes: Sequence[str] | None = None) -> None:
        self._prefixes = None if prefixes is None else (*prefixes, OWN_PREFIX)

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge archive and samples; UNKNOWN where there is no archive."""
        archive = recording.archive
        if archive is None or not archive.told:
            return Result(self.name, Verdict.UNKNOWN, "no archive of the store's history was kept")
        counts: Counter[str] = Counter()
        anomalies: list[Anomaly] = []
        for anomaly in self._anomalies(recording, archive, budget):
            counts[anomaly.name] += 1
            if counts[anomaly.name] <= MOST_TOLD:
                anomalies.append(anomaly)
        untold = archive.untold(2, archive.newest)
        stats: dict[str, Any] = {
            "revisions": len(archive.told),
            "newest": archive.newest,
            "untold": sum(last - first + 1 for first, last in untold),
            "members": {node: sum(s.last - s.first + 1 for s in spans) for node, spans in archive.spans.items()},
        } | counts
        if anomalies:
            return Result(self.name, Verdict.INVALID, anomalies[0].story, tuple(anomalies), stats=stats)
        return Result(self.name, Verdict.VALID, stats=stats)

    def _anomalies(self, recording: Recording, archive: Archive, budget: Budget) -> Iterator[Anomaly]:
        split = min((d.revision for d in archive.disagreements), default=archive.newest + 1)
        yield from _disagreements(recording, archive)
        yield from _inconsistent(archive, split, budget)
        if self._prefixes is not None:
            yield from _strangers(archive, self._prefixes)
        if not archive.is_shared:
            yield from _returns(recording.samples, recording.faults)


def _disagreements(recording: Recording, archive: Archive) -> Iterator[Anomaly]:
    """The members' histories part at some revision; what follows is its consequence, and counted."""
    for disagreement in sorted(archive.disagreements, key=lambda each: each.revision):
        yield Anomaly(
            "store history: disagreement",
            f"the members tell different histories: at revision {disagreement.revision} {disagreement.node} has "
            f"{_told(disagreement.tells)}, {disagreement.first_node} {_told(disagreement.first_told)}",
            _near(recording, disagreement.revision),
            details={
                "revision": disagreement.revision,
                "members": {
                    disagreement.node: _told(disagreement.tells),
                    disagreement.first_node: _told(disagreement.first_told),
                },
            },
        )


def _near(recording: Recording, revision: int) -> tuple[Op, ...]:
    """The operations that were answered at a revision."""
    found = [op for op in recording.history if op.revision == revision and op.is_completion]
    invokes = {
        operation.completion.index: operation.invoke
        for operation in recording.history.operations
        if operation.completion
    }
    return tuple(sorted((each for op in found[:4] for each in (invokes[op.index], op)), key=lambda op: op.index))


def _inconsistent(archive: Archive, split: int, budget: Budget) -> Iterator[Anomaly]:
    """Versions and revisions of each key, up to where the members part; after a hole every key starts anew."""
    states: dict[str, StoreEvent] = {}
    last = 0
    for revision in archive.revisions:
        budget.check(1)
        if revision >= split:
            return
        if revision != last + 1:
            states = {}
        is_whole = (last == 0 or revision == last + 1) and archive.revisions[0] <= archive.base + 2
        if not archive.told[revision] and revision > 1 and not archive.is_shared:
            yield Anomaly(
                "store history: empty revision",
                f"revision {revision} changed nothing, but every revision is a change",
                details={"revision": revision},
            )
        for event in archive.told[revision]:
            yield from _problems(
                event,
                revision,
                states.get(event.key),
                starts_known=is_whole and archive.revisions[0] <= archive.base + 2,
            )
            states[event.key] = event
        last = revision


def _problems(event: StoreEvent, revision: int, before: StoreEvent | None, *, starts_known: bool) -> Iterator[Anomaly]:
    wrong: list[tuple[str, int, int]] = []
    if event.mod_revision != revision:
        wrong.append(("mod revision", event.mod_revision, revision))
    if event.type == "put" and (before is not None or starts_known):
        if before is None or before.type == "delete":
            expected = (revision, 1)
        else:
            expected = (before.create_revision, before.version + 1)
        if event.create_revision != expected[0]:
            wrong.append(("create revision", event.create_revision, expected[0]))
        if event.version != expected[1]:
            wrong.append(("version", event.version, expected[1]))
    for what, is_so, should in wrong:
        yield Anomaly(
            f"store history: {what}",
            f"{event.key!r} at revision {revision} has {what} {is_so}, and should have {should}",
            details={"key": event.key, "revision": revision, "expected": should, "actual": is_so},
        )
    if event.type == "delete" and starts_known and (before is None or before.type == "delete"):
        yield Anomaly(
            "store history: delete of nothing",
            f"{event.key!r} was deleted at revision {revision}, when it was not there",
            details={"key": event.key, "revision": revision},
        )


def _strangers(archive: Archive, prefixes: Sequence[str]) -> Iterator[Anomaly]:
    for event in archive.events():
        if not event.key.startswith(tuple(prefixes)):
            yield Anomaly(
                "store history: unknown key",
                f"{event.key!r} was changed at revision {event.mod_revision}, which no workload of this run does",
                details={"key": event.key, "revision": event.mod_revision},
            )


def _returns(samples: Sequence[ClusterSample], faults: Sequence[FaultRecord]) -> Iterator[Anomaly]:
    """Members whose revision or applied index fell while their process lived."""
    restarted: dict[str, list[Restart]] = {}
    for restart in restarts(faults):
        restarted.setdefault(restart.node, []).append(restart)
    before: dict[str, tuple[int, Mapping[str, int]]] = {}
    for sample in samples:
        for node, member in sample.members.items():
            if member.revision is None or member.applied_index is None:
                continue
            now = {"revision": member.revision, "applied index": member.applied_index}
            since_ns, then = before.get(node, (0, {}))
            # A fault that is still on counts too: its process may come back at any time until it is healed.
            lived = not any(
                since_ns - 2_000_000_000 <= at.end_ns and at.start_ns <= sample.time_ns
                for at in restarted.get(node, ())
            )
            for what, value in now.items():
                if lived and value < then.get(what, 0):
                    yield Anomaly(
                        f"store history: {what} went back",
                        f"{node} said {what} {then[what]} at {since_ns / 1e9:.1f} s and {value} at "
                        f"{sample.time_ns / 1e9:.1f} s, without a restart in between",
                        details={"node": node, "before": then[what], "after": value},
                    )
            before[node] = sample.time_ns, now


def _told(events: Sequence[StoreEvent]) -> str:
    if not events:
        return "no change"
    return ", ".join(
        f"{event.key} deleted" if event.type == "delete" else f"{event.key}={event.value!r} (version {event.version})"
        for event in events[:4]
    ) + (f" and {len(events) - 4} more" if len(events) > 4 else "")
