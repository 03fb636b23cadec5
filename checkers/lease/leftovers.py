"""Leases that outlast their time: judged at the end, when all faults are healed and one leader leads.

The bound counts from the latest of: the last change of leaders, the last heal,
and the last request that may have renewed the lease.  From there it is the
granted TTL, the election timeout (by which a new leader extends every lease),
and what etcd's lessor may take: it looks for expired leases twice a second, and
tries again those whose revoke was not done after a request's timeout, which is
5 s and two election timeouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from splitvote.checkers.findings import Findings
from splitvote.checkers.lease.conditions import Conditions
from splitvote.checkers.lease.evidence import NEVER, Lease
from splitvote.harness.op import Operation

LATE: Final = "lease: late expiry"

LESSOR_SLACK_S: Final = 8.0
"""5.5 s of the lessor, beside its two election timeouts, and some for a machine that is busy."""

LATE_AFTER_S: Final = LESSOR_SLACK_S + 5.0
"""Whoever looks so long after TTL and final heal finds all leases past their bound, at the default election timeout."""

_REQUEST_TIMEOUT_S: Final = 5.0
"""A member goes on with a renewal whose client has gone for at most so long, and two election timeouts."""


@dataclass(slots=True)
class Leftovers:
    """How many leases were past their bound when somebody looked, and were gone; how many could not be judged."""

    judged: int = 0
    not_judged: int = 0


def check_leftovers(
    leases: Mapping[int, Lease], gets: Iterable[Operation], conditions: Conditions, findings: Findings
) -> Leftovers:
    """Judge the queries of the end (``leftover``), and the keys that reads show, by the leases they hang on."""
    counts = Leftovers()
    for lease in leases.values():
        for query in lease.queries:
            if query.f == "leftover" and lease.granted is not None:
                _check_query(lease, query, conditions, findings, counts)
    for get in gets:
        _check_keys(leases, get, conditions, findings)
    return counts


def _check_query(lease: Lease, query: Operation, conditions: Conditions, findings: Findings, counts: Leftovers) -> None:
    bound_ns = _bound_ns(lease, query, conditions)
    if bound_ns is None or query.invoke.time_ns <= bound_ns:
        counts.not_judged += 1
        return
    counts.judged += 1
    if query.output[1] > 0:
        _tell(lease, query, bound_ns, f"it was still there, with {_listed(query.output[2])}", findings)


def _check_keys(leases: Mapping[int, Lease], get: Operation, conditions: Conditions, findings: Findings) -> None:
    shown: dict[int, list[str]] = {}
    for name, _, number in get.output:
        if number in leases:
            shown.setdefault(number, []).append(name)
    for number, names in shown.items():
        lease = leases[number]
        bound_ns = _bound_ns(lease, get, conditions)
        if bound_ns is not None and get.invoke.time_ns > bound_ns:
            _tell(lease, get, bound_ns, f"its keys were still there: {_listed(names)}", findings)


def _bound_ns(lease: Lease, query: Operation, conditions: Conditions) -> int | None:
    """By when the lease must be gone; None where nobody can tell."""
    settled_ns = conditions.settled_since(query.invoke.time_ns)
    if settled_ns is None or lease.granted is None or lease.reborn_ns != NEVER:
        return None
    patience_ns = int((_REQUEST_TIMEOUT_S + 2 * conditions.election_s) * 1e9)
    known = [renewal.completed_ns for renewal in lease.renewals]
    unknown = [ended_ns + patience_ns for ended_ns in lease.open_renewals_ns]
    from_ns = max(settled_ns, conditions.last_heal_ns, *known, *unknown)
    allowed_s = lease.ttl_s + 3 * conditions.election_s + LESSOR_SLACK_S
    return from_ns + int(allowed_s * 1e9) + conditions.stalled_ns(from_ns, query.invoke.time_ns)


def _tell(lease: Lease, query: Operation, bound_ns: int, what: str, findings: Findings) -> None:
    late_s = (query.invoke.time_ns - bound_ns) / 1e9
    findings.add(
        LATE,
        f"lease {lease.id} (TTL {lease.ttl_s} s) was renewed by nobody and the cluster was well, but {late_s:.1f} s "
        f"after it had to be gone {what}",
        [query],
        lease=lease.id,
        bound_ns=bound_ns,
        late_ms=round(late_s * 1e3, 1),
    )


def _listed(names: Sequence[str]) -> str:
    return f"the keys {', '.join(names)}" if names else "no key"
