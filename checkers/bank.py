"""Bank: transfers between accounts keep the total that every read sees (Jepsen's ``bank``).

Operations: ``transfer`` (its value is not looked at), ``read`` returning the
balances: a map of account to balance, or a list by the accounts' order.  JSON
turns a map's keys into strings, so accounts are compared by their text.

A read is wrong for one reason, the first of: an unexpected account, an account
without a balance, a wrong total, a negative balance.  Snapshot isolation rules
all of them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from splitvote.checkers.elements import MOST_ANOMALIES, listed, plural, records_of, sentence, told
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

_NAMES: Final = ("unexpected account", "no balance", "wrong total", "negative balance")


class BankChecker:
    """INVALID when a read shows accounts, a total or balances that no order of transfers leads to.

    ``accounts`` None: any account will do.  ``total`` None: the total of the
    first ok read is right, and all others must have it.
    """

    name = "bank"

    def __init__(
        self,
        *,
        accounts: Iterable[Any] | None = None,
        total: int | None = None,
        negative_balances: Literal["forbidden", "allowed"] = "forbidden",
    ) -> None:
        self._accounts = None if accounts is None else tuple(map(str, accounts))
        self._total = total
        self._negative_balances = negative_balances

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge every ok read by itself."""
        budget.check(len(recording.history))
        reads = [op for op in recording.history.operations if op.f == "read" and op.type == "ok"]
        reads = [read for read in reads if read.output is not None]
        if not reads:
            return Result(self.name, Verdict.UNKNOWN, reason="the accounts were never read: no read ended ok")
        total, first = self._total, None
        if total is None:
            first = reads[0]
            total = sum(filter(None, self._balances(first).values()))
        counts: Counter[str] = Counter()
        anomalies = []
        for read in reads:
            if (found := self._problem(read, total)) is not None:
                name, words = found
                counts[name] += 1
                if counts[name] <= MOST_ANOMALIES:
                    anomalies.append(_anomaly(name, words, read, first if name == "wrong total" else None))
        anomalies.sort(key=lambda anomaly: anomaly.ops[-1].index)
        return Result(
            self.name,
            Verdict.INVALID if anomalies else Verdict.VALID,
            reason=_reason(counts),
            anomalies=tuple(anomalies),
            evidence={"by_problem": dict(counts), "total": total},
            stats={"reads": len(reads), "wrong_reads": counts.total()},
        )

    def _balances(self, read: Operation) -> dict[str, Any]:
        value = read.output
        if isinstance(value, Mapping):
            return {str(account): balance for account, balance in value.items()}
        names = self._accounts or ()
        return {names[place] if place < len(names) else str(place): balance for place, balance in enumerate(value)}

    def _problem(self, read: Operation, total: int) -> tuple[str, str] | None:
        """What is wrong with a read, if anything: a name and words."""
        balances = self._balances(read)
        if self._accounts is not None and (strange := [name for name in balances if name not in self._accounts]):
            return "unexpected account", f"shows {plural(len(strange), 'account')} that never were: {listed(strange)}"
        if empty := [account for account, balance in balances.items() if balance is None]:
            return "no balance", f"shows no balance of {plural(len(empty), 'account')}: {listed(empty)}"
        if (found := sum(balances.values())) != total:
            off = f"{abs(found - total)} {'more' if found > total else 'less'}"
            return "wrong total", f"sums to {found}, {off} than the {total}"
        if self._negative_balances == "forbidden" and (
            debts := {account: balance for account, balance in balances.items() if balance < 0}
        ):
            return "negative balance", f"shows negative balances: {debts}"
        return None


def _anomaly(name: str, words: str, read: Operation, first: Operation | None) -> Anomaly:
    what = f"{told(read)}, returning {read.output!r}, {words}"
    if name == "wrong total":
        what += " that there is" if first is None else f" that {told(first)} saw"
    return Anomaly(
        f"bank: {name}",
        sentence(what),
        records_of(first, read),
        details={"balances": read.output},
    )


def _reason(counts: Counter[str]) -> str | None:
    if not counts:
        return None
    return "; ".join(f"{plural(counts[name], 'read')} with {name}" for name in _NAMES if counts[name])
