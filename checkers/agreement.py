"""Whether the members agree at the end: the same revision, the same HashKV, the same keys on every member.

What is compared, and why one of them alone is not enough (SOUNDNESS 12):

- *Revision at equal applied index.*  Each member has applied the same log; a
  store revision that differs means that one of them applied something another
  did not (etcd issues 13766, 14685).
- *HashKV at one explicit revision*, at or above every member's compact
  revision.  A divergence may leave the revision equal and the contents not.
- *Every key on every member*, by a serializable read: it names what differs.
  A hash alone can be evaded, and says nothing a user could act on.

Readings are only comparable once the members have settled (two consecutive
equal samples); without that the answer is UNKNOWN, never INVALID.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, Final

from splitvote.harness.recording import MemberReading, Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

_KEYS_SHOWN: Final = 20


class AgreementChecker:
    """INVALID where settled members differ, naming members, revisions and keys."""

    name = "agreement"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Compare the members' final readings."""
        final = recording.final
        if final is None or not final.members:
            return Result(self.name, Verdict.UNKNOWN, "the run ended before the members' final state was read")
        silent = {node: reading.error for node, reading in final.members.items() if reading.error is not None}
        answered = {node: reading for node, reading in final.members.items() if reading.error is None}
        anomalies = disagreements(answered)
        stats = {
            "members": len(answered),
            "revision": max((reading.revision or 0 for reading in answered.values()), default=0),
            "keys": max((len(reading.keys) for reading in answered.values()), default=0),
        }
        if anomalies and not final.settled:
            reason = f"the members had not settled, so their differences prove nothing ({anomalies[0].story})"
            return Result(self.name, Verdict.UNKNOWN, reason, stats=stats)
        if anomalies:
            return Result(self.name, Verdict.INVALID, anomalies[0].story, tuple(anomalies), stats=stats)
        if silent:
            node, error = next(iter(sorted(silent.items())))
            return Result(self.name, Verdict.UNKNOWN, f"{node} did not answer at the end: {error}", stats=stats)
        return Result(self.name, Verdict.VALID, stats=stats)


def disagreements(members: Mapping[str, MemberReading]) -> list[Anomaly]:
    """Every way in which the members' readings differ, the most telling first."""
    return [*_differing_keys(members), *_differing_revisions(members), *_differing_hashes(members)]


def _groups(values: Mapping[str, Hashable]) -> dict[Hashable, list[str]]:
    """Members by what they say, the largest group first."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for node, value in sorted(values.items()):
        groups[value].append(node)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _say(groups: Mapping[Hashable, list[str]]) -> str:
    return "; ".join(f"{', '.join(nodes)}: {value}" for value, nodes in groups.items())


def _differing_revisions(members: Mapping[str, MemberReading]) -> list[Anomaly]:
    anomalies = []
    by_index: dict[int | None, dict[str, MemberReading]] = defaultdict(dict)
    for node, reading in members.items():
        by_index[reading.applied_index][node] = reading
    for index, same in by_index.items():
        groups = _groups({node: reading.revision for node, reading in same.items() if reading.revision is not None})
        if index is not None and len(groups) > 1:
            anomalies.append(
                Anomaly(
                    "member agreement: revision",
                    f"members that applied the same log (up to index {index}) are at different revisions of the "
                    f"store: {_say(groups)}; some member lost or repeated a write",
                    details={"applied_index": index, "revisions": {n: r.revision for n, r in same.items()}},
                )
            )
    return anomalies


def _differing_hashes(members: Mapping[str, MemberReading]) -> list[Anomaly]:
    anomalies = []
    by_place: dict[tuple[int, int | None], dict[str, int]] = defaultdict(dict)
    for node, reading in members.items():
        if reading.hash is not None and reading.hash_revision is not None:
            by_place[reading.hash_revision, reading.compact_revision][node] = reading.hash
    for (revision, compacted), hashes in by_place.items():
        groups = _groups(hashes)
        if len(groups) > 1:
            anomalies.append(
                Anomaly(
                    "member agreement: hash",
                    f"the members' hashes of the store at revision {revision} differ: {_say(groups)}",
                    details={"revision": revision, "compact_revision": compacted, "hashes": hashes},
                )
            )
    return anomalies


def _differing_keys(members: Mapping[str, MemberReading]) -> list[Anomaly]:
    readings = {node: reading.keys for node, reading in members.items()}
    every_key = sorted({key for keys in readings.values() for key in keys})
    different: dict[str, dict[str, Any]] = {}
    for key in every_key:
        seen = {node: _as_hashable(keys.get(key)) for node, keys in readings.items()}
        if len(set(seen.values())) > 1:
            different[key] = {node: keys.get(key) for node, keys in readings.items()}
    if not different:
        return []
    by_value = sorted(
        different.items(), key=lambda item: len({repr(state and state[0]) for state in item[1].values()}) < 2
    )
    key, seen_by = by_value[0]  # one whose very values differ tells more than one whose revisions do
    groups = _groups({node: _describe(value) for node, value in seen_by.items()})
    count = "1 key differs" if len(different) == 1 else f"{len(different)} keys differ"
    return [
        Anomaly(
            "member agreement: keys",
            f"{count} between the members after everything was healed and settled, so what a client is told "
            f"depends on the member it asks; {key!r} is {_say(groups)}",
            details={
                "count": len(different),
                "keys": dict(by_value[:_KEYS_SHOWN]),
                "revisions": {node: reading.revision for node, reading in members.items()},
            },
        )
    ]


def _as_hashable(state: tuple[Any, int, int, int] | None) -> Hashable:
    return None if state is None else (repr(state[0]), *state[1:])


def _describe(state: tuple[Any, int, int, int] | None) -> str:
    if state is None:
        return "absent"
    value, mod_revision, version, _ = state
    return f"{value!r} (mod_revision {mod_revision}, version {version})"


def _value(state: tuple[Any, int, int, int] | None) -> str | None:
    return None if state is None else repr(state[0])
