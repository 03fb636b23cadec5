"""Whether each acquire that was answered had its turn: the theory of the lock, by revision.

An acquire is answered at a revision R.  Its key, created at c, must then have
been the oldest: between c and R there was a revision at which no older key lived
(SOUNDNESS 15).  A key older than c that lives at R lived all the way from c to
R, and one that is gone by R stays gone, for create revisions only grow; so the
rule is just that *no older key lives at R*.

Two holds exclude each other by the same rule: a hold begins at R and ends when
the key does, so that if no older key lived at any R, no two holds of a lock
share a revision.  Where the rule is broken, the older key says how badly: if its
own acquire was answered, too, and the holds share a revision, two held the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from splitvote.checkers.findings import Findings
from splitvote.checkers.lock.claims import Claim
from splitvote.checkers.lock.lives import Life, Lives
from splitvote.checkers.truth import Truth


@dataclass(frozen=True, slots=True)
class Grant:
    """A claim that was answered at ``revision`` for the key that lived ``life``."""

    claim: Claim
    life: Life
    revision: int

    @property
    def is_alive(self) -> bool:
        """Whether the key was there when the client was told that it holds the lock."""
        return self.life.is_alive_at(self.revision)

    def shares_revision_with(self, other: Grant) -> bool:
        """Whether there is a revision at which both hold the lock: answered already, and the key still there."""
        begin = max(self.revision, other.revision)
        return self.life.is_alive_at(begin) and other.life.is_alive_at(begin)


def granted(claims: Sequence[Claim], lives: Lives, truth: Truth, findings: Findings) -> list[Grant]:
    """The grants that can be judged; tells of answers for keys that were not there."""
    grants = []
    for claim in claims:
        revision = claim.revision
        if not claim.is_ok:
            continue
        if revision is None or revision > truth.known:
            _tell_beyond(claim, truth, findings)
            continue
        life = lives.of_key_at(claim.key, revision)
        if life is None:
            findings.add(
                "lock: own key",
                f"{claim.told} was granted at revision {revision}, but until then the store never had its key "
                f"{claim.key}",
                [claim.operation],
                revision=revision,
                key=claim.key,
            )
            continue
        grant = Grant(claim, life, revision)
        _check_own_key(grant, findings)
        grants.append(grant)
    return grants


def _tell_beyond(claim: Claim, truth: Truth, findings: Findings) -> None:
    if claim.revision is None or truth.doubt is not None:
        findings.skipped += 1
        return
    findings.add(
        "lock: lost key",
        f"{claim.told} was granted at revision {claim.revision}, but at the end no member has any beyond {truth.known}",
        [claim.operation],
        revision=claim.revision,
    )


def _check_own_key(grant: Grant, findings: Findings) -> None:
    """The client recipe has read its key at the very revision that it answers with, and tells what it read.

    The server's Lock of 3.4 does not look again after waiting, so that one may win with a key that is gone.
    """
    claim, life = grant.claim, grant.life
    completion = claim.operation.completion
    assert completion is not None
    told = (completion.extra or {}).get("create_revision")
    if told is None or (grant.is_alive and told == life.create):
        return
    findings.add(
        "lock: own key",
        f"{claim.told} saw its key {claim.key}, created at {told}, at revision {grant.revision}; in the store's "
        f"history it was created at {life.create} and {life.ended}",
        [claim.operation],
        revision=grant.revision,
        key=claim.key,
        told=told,
        create_revision=life.create,
        end=life.end,
    )


def check_turns(grants: Sequence[Grant], lives: Lives, findings: Findings) -> None:
    """Tell of every grant at whose revision an older key lived."""
    grants_of: dict[int, list[Grant]] = {}
    for grant in grants:
        grants_of.setdefault(grant.life.create, []).append(grant)
    for grant, older in _overtaken(grants, lives):
        holders = [other for life in older for other in grants_of.get(life.create, ())]
        rival = next((other for other in holders if grant.shares_revision_with(other)), None)
        if rival is not None:
            _tell_two_holders(grant, rival, findings)
        else:
            _tell_overtaken(grant, older[0], grants_of.get(older[0].create, ()), findings)


def _overtaken(grants: Sequence[Grant], lives: Lives) -> Iterator[tuple[Grant, list[Life]]]:
    """Each grant at whose revision older keys lived, with these; one sweep over the revisions of each lock."""
    by_lock: dict[str, list[Grant]] = {}
    for grant in sorted(grants, key=lambda grant: grant.revision):
        by_lock.setdefault(grant.claim.lock, []).append(grant)
    lives_by_lock = lives.by_lock()
    for lock, theirs in by_lock.items():
        alive: list[Life] = []
        coming = iter(lives_by_lock[lock])
        following = next(coming, None)
        for grant in theirs:
            while following is not None and following.create <= grant.revision:
                alive.append(following)
                following = next(coming, None)
            alive = [life for life in alive if life.is_alive_at(grant.revision)]
            older = [life for life in alive if life.create < grant.life.create]
            if older:
                yield grant, older


def _tell_two_holders(grant: Grant, rival: Grant, findings: Findings) -> None:
    findings.add(
        "lock: mutual exclusion",
        f"{grant.claim.told} and {rival.claim.told} both held the lock at revision "
        f"{max(grant.revision, rival.revision)}: the one, with a key created at {grant.life.create}, was granted at "
        f"{grant.revision}, the other, with one created at {rival.life.create} that {rival.life.ended}, at "
        f"{rival.revision}",
        [rival.claim.operation, grant.claim.operation],
        revision=max(grant.revision, rival.revision),
        create_revisions=[rival.life.create, grant.life.create],
        ends=[rival.life.end, grant.life.end],
        lock=grant.claim.lock,
    )


def _tell_overtaken(grant: Grant, older: Life, theirs: Sequence[Grant], findings: Findings) -> None:
    findings.add(
        "lock: no predecessor",
        f"{grant.claim.told}, whose key was created at {grant.life.create}, was granted at revision {grant.revision}, "
        f"while the older key {older.key}, created at {older.create}, lived: it {older.ended}",
        [*(other.claim.operation for other in theirs), grant.claim.operation],
        revision=grant.revision,
        create_revision=grant.life.create,
        older={"key": older.key, "create_revision": older.create, "end": older.end},
        lock=grant.claim.lock,
    )
