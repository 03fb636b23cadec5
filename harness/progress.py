"""What a run says while it goes on: a live table on a terminal, plain lines elsewhere.

Shown are operations and errors, active faults, the leader and the time left;
all of it is read from the runner, the sampler and the nemesis's records, and
costs the run nothing but a glance each second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.runner import Runner
from splitvote.harness.sampler import Sampler

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LIVE_INTERVAL_S: Final = 0.25
LINE_INTERVAL_S: Final = 5.0


@dataclass(slots=True)
class Glance:
    """The state of a run at one moment, in words."""

    elapsed_s: float
    outcomes: Counter[str]
    leader: str
    faults: str
    step: str

    def line(self, time_s: float) -> str:
        """One line for a log."""
        counts = ", ".join(f"{outcome} {self.outcomes[outcome]}" for outcome in ("ok", "fail", "info"))
        return f"{self.elapsed_s:6.1f}/{time_s:g} s  {counts}  leader {self.leader}  faults: {self.faults}"


@dataclass(slots=True)
class Progress:
    """Follows one run; ``attach`` it to the runner, then let ``follow`` run beside the run.

    ``describe_faults`` tells the active faults in a few words.
    """

    console: Console
    time_s: float
    runner: Runner | None = None
    sampler: Sampler | None = None
    step: str = ""
    last_fault: str = "none"
    _lines: list[str] = field(default_factory=list)

    def attach(self, runner: Runner, sampler: Sampler) -> None:
        """Begin to show this run's numbers."""
        self.runner, self.sampler = runner, sampler

    def note_step(self, step: str) -> None:
        """Say what the harness does now."""
        self.step = step
        if not self.console.is_terminal:
            self.console.print(f"{step} ...", highlight=False)

    def note_record(self, op: Op) -> None:
        """Watch the nemesis's records for what is active."""
        if op.process == NEMESIS:
            value = op.value if isinstance(op.value, dict) else {}
            targets = ", ".join(map(str, value.get("targets", ())))
            self.last_fault = " ".join(filter(None, [op.f, str(value.get("kind", "")), targets, value.get("phase")]))

    def glance(self) -> Glance:
        """The run's numbers now."""
        outcomes: Counter[str] = Counter()
        elapsed_s = 0.0
        if self.runner is not None:
            elapsed_s = self.runner.now_ns() / 1e9
            for (_, outcome), count in self.runner.counts.items():
                outcomes[outcome] += count
        return Glance(elapsed_s, outcomes, self._leader(), self.last_fault, self.step)

    def _leader(self) -> str:
        latest = self.sampler.latest if self.sampler is not None else None
        if latest is None:
            return "?"
        named = Counter(member.leader for member in latest.members.values() if member.leader)
        return named.most_common(1)[0][0] if named else "none"

    async def follow(self) -> None:
        """Show the run until cancelled."""
        if self.console.is_terminal:
            await self._follow_live()
        else:
            await self._follow_in_lines()

    async def _follow_live(self) -> None:
        from rich.live import Live

        with Live(self._table(), console=self.console, refresh_per_second=4, transient=True) as live:
            while True:
                await asyncio.sleep(LIVE_INTERVAL_S)
                live.update(self._table())

    async def _follow_in_lines(self) -> None:
        while True:
            await asyncio.sleep(LINE_INTERVAL_S)
            if self.runner is not None:
                self.console.print(self.glance().line(self.time_s), highlight=False)

    def _table(self) -> Table:
        from rich.table import Table

        now = self.glance()
        table = Table.grid(padding=(0, 2))
        left_s = max(0.0, self.time_s - now.elapsed_s)
        table.add_row("step", f"{now.step} ({left_s:.0f} s left)" if now.step == "running" else now.step)
        table.add_row("operations", ", ".join(f"{name} {now.outcomes[name]}" for name in ("ok", "fail", "info")))
        table.add_row("leader", now.leader)
        table.add_row("last fault", now.faults)
        return table
