"""Bank: transfers between accounts, and reads of all accounts at once, whose total never changes (Jepsen's ``bank``).

Operations: ``open`` gives every account its opening balance, before anything
else; ``transfer`` of ``{"from", "to", "amount"}`` fails where the balance is too
small or an account has changed meanwhile; ``read`` returns the balances by account.

Option ``reads=serializable``: reads may be old, but what they show must have
been at some time, so that the total is judged all the same.

Finds: transfers that took effect by half, twice, or on accounts that had
changed; reads that mix two states; lost accounts.  Cannot find: a transfer that
is lost as a whole, or reads that are merely old: ``append`` and ``wr`` do.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.checkers.bank import BankChecker
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import Context, Generator, clients, each_thread, mix, phases, rate, repeat, until_ok
from splitvote.harness.op import Op
from splitvote.workloads import reads
from splitvote.workloads.workload import Workload, WorkloadOptions

ACCOUNTS: Final = 8
OPENING_BALANCE: Final = 10
MOST_ACCOUNTS: Final = 100
"""One transaction opens them all, and etcd's takes 128 parts."""

GREATEST_AMOUNT: Final = 5
LEAST_OK: Final = {"open": 1, "transfer": 5, "read": 5}

_FROM, _TO, _AMOUNT = range(3)
"""Lanes of the draws for one transfer."""


def workload(options: WorkloadOptions) -> Workload:
    """The bank workload, with ``options.keys`` accounts (8; two at least); raises ConfigError for more than 100."""
    accounts = max(2, options.keys or ACCOUNTS)
    if accounts > MOST_ACCOUNTS:
        raise ConfigError(
            f"--keys {accounts}: a bank opens its accounts in one transaction; give {MOST_ACCOUNTS} at most"
        )
    names = [str(number) for number in range(accounts)]
    opening = until_ok(repeat(Op(f="open", value=dict.fromkeys(names, OPENING_BALANCE))))
    read = repeat(Op(f="read", extra=reads.marked(serializable=reads.are_serializable(options))))

    def transfer(ctx: Context) -> dict[str, Any]:
        """From one account to another; often more than there is."""
        source = ctx.below(accounts, _FROM)
        target = (source + 1 + ctx.below(accounts - 1, _TO)) % accounts
        amount = 1 + ctx.below(GREATEST_AMOUNT, _AMOUNT)
        return {"f": "transfer", "value": {"from": names[source], "to": names[target], "amount": amount}}

    return Workload(
        name="bank",
        generator=rate(options.rate, clients(phases(opening, mix([transfer, read])))),
        final=lambda _: _read_everywhere(),
        checkers=(BankChecker(accounts=names, total=accounts * OPENING_BALANCE),),
        least_ok=LEAST_OK,
        options=(reads.OPTION,),
    )


def _read_everywhere() -> Generator:
    """Every thread reads, so that every member is asked."""
    return clients(each_thread(Op(f="read")))
