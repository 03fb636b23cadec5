"""Whose doing the lock keys are: each is put by an acquire, and deleted by its own session or by its lease's end.

When a lease ends, by expiry or revocation, all its keys go at one revision and
no put can name it afterwards.  So a deletion that another key of the lease
outlives, or after which the lease was used again, was a client's doing: of a
release of that very key, or of an acquire that was given up and tidied up after
itself (the server's does, too, at any later time).  Whether leases end too early
is for the lease workload to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from splitvote.checkers.findings import Findings
from splitvote.checkers.lock.claims import Claim, Release
from splitvote.checkers.lock.lives import Life, Lives
from splitvote.checkers.truth import Truth
from splitvote.harness.op import Operation


def check_puts(claims: Sequence[Claim], lives: Lives, findings: Findings) -> None:
    """Tell of keys that no acquire can have put, and of puts over a key that was there."""
    left: dict[str, int] = {}
    for claim in claims:
        left[claim.key] = left.get(claim.key, 0) + 1
    for life in lives.all:
        left[life.key] = left.get(life.key, 0) - 1
        if left[life.key] < 0:
            findings.add(
                "lock: phantom key",
                f"the store has {life.key} created at revision {life.create}, which no acquire can have put",
                [claim.operation for claim in claims if claim.key == life.key],
                revision=life.create,
                key=life.key,
            )
    for event in lives.overwritten:
        findings.add(
            "lock: guarded put",
            f"{event.key} was put at revision {event.mod_revision} though it was there already, and an acquire puts "
            "its key only where it is not",
            [claim.operation for claim in claims if claim.key == event.key],
            revision=event.mod_revision,
            key=event.key,
        )


def check_deletions(claims: Sequence[Claim], releases: Sequence[Release], lives: Lives, findings: Findings) -> None:
    """Tell of keys that were deleted by somebody else, while their session lived."""
    exact = {(release.key, _revision(release.operation)) for release in releases if release.operation.type == "ok"}
    vague: dict[str, int] = {}
    for claim in claims:
        if not claim.is_ok:
            vague[claim.key] = vague.get(claim.key, 0) + 1
    for release in releases:
        if release.operation.type == "info" and release.key is not None:
            vague[release.key] = vague.get(release.key, 0) + 1
    for life in _deleted_in_session(lives):
        if (life.key, life.end) in exact:
            continue
        vague[life.key] = vague.get(life.key, 0) - 1
        if vague[life.key] < 0:
            _tell_stolen(life, claims, releases, findings)


def _deleted_in_session(lives: Lives) -> list[Life]:
    """The lives whose end cannot have been their lease's."""
    newest: dict[int, int] = {}
    by_lease: dict[int, list[Life]] = {}
    for life in lives.all:
        newest[life.lease] = life.create
        by_lease.setdefault(life.lease, []).append(life)
    found = []
    for life in lives.all:
        end = life.end
        if end is None or not life.lease:
            continue
        if newest[life.lease] > end or any(other.is_alive_at(end) for other in by_lease[life.lease]):
            found.append(life)
    return found


def _tell_stolen(life: Life, claims: Sequence[Claim], releases: Sequence[Release], findings: Findings) -> None:
    at_once = [release.operation for release in releases if _revision(release.operation) == life.end]
    by = f"; process {at_once[0].process}'s release of {at_once[0].key} was answered there" if at_once else ""
    owners = [claim.operation for claim in claims if claim.key == life.key]
    findings.add(
        "lock: release by another",
        f"{life.key} was deleted at revision {life.end} though its session lived on, and no release or given-up "
        f"acquire of its own can have done so{by}",
        [*owners[-1:], *at_once],
        revision=life.end,
        key=life.key,
        lease=f"{life.lease:x}",
    )


def check_releases(releases: Sequence[Release], lives: Lives, truth: Truth, findings: Findings) -> None:
    """Tell of releases that were acknowledged and have not released."""
    by_lease: dict[int, list[Life]] = {}
    for life in lives.all:
        by_lease.setdefault(life.lease, []).append(life)
    for release in releases:
        if release.key is None:
            _check_closed(release, by_lease.get(release.lease, []), truth, findings)
        else:
            _check_unlocked(release, release.key, lives, truth, findings)


def _check_unlocked(release: Release, key: str, lives: Lives, truth: Truth, findings: Findings) -> None:
    """After a release its key lives no more, and one that says it has deleted the key has done so at its revision.

    One that found nothing has made no revision: its answer bears the newest
    one, which may well be that at which the key went, with its lease or by an
    earlier release.
    """
    completion = release.operation.completion
    if completion is None or completion.type != "ok" or completion.revision is None:
        return
    revision = completion.revision
    if revision > truth.known:
        findings.skipped += 1
        return
    life = lives.of_key_at(key, revision)
    has_deleted = (completion.extra or {}).get("deleted")
    if life is not None and life.is_alive_at(revision):
        what = f"it lives: it was created at {life.create} and {life.ended}"
    elif has_deleted and (life is None or life.end != revision):
        what = "the answer says that it was deleted by this, and the store's history has it not deleted there"
    else:
        return
    findings.add(
        "lock: release",
        f"process {release.operation.process}'s release of {release.operation.key} was acknowledged at revision "
        f"{revision}, but of its key {key} {what}",
        [release.operation],
        revision=revision,
        key=key,
    )


def _check_closed(release: Release, theirs: Sequence[Life], truth: Truth, findings: Findings) -> None:
    """After a session was closed none of its keys lives; the revision of that answer is a bound (SOUNDNESS 7)."""
    completion = release.operation.completion
    bound = None if completion is None or completion.type != "ok" else (completion.extra or {}).get("revoked_by")
    if bound is None:
        return
    if bound > truth.known:
        findings.skipped += 1
        return
    for life in theirs:
        if life.end is None or life.end > bound:
            findings.add(
                "lock: release",
                f"process {release.operation.process}'s session was closed by revision {bound}, but its key {life.key} "
                f"was created at {life.create} and {life.ended}",
                [release.operation],
                revision=bound,
                key=life.key,
            )


def _revision(operation: Operation) -> int | None:
    return None if operation.completion is None else operation.completion.revision
