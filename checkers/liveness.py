"""Whether the cluster came back: after the final heal every member must serve again within the bound.

A cluster that does not recover is INVALID, unless the harness's own measured
stalls explain it (SOUNDNESS 21): then nobody can tell, and it is UNKNOWN.
"""

from __future__ import annotations

from typing import Final

from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

STALLED_SHARE: Final = 0.25
"""Above this share of the recovery bound, our own stalls may be what looked like an unavailable cluster."""


class LivenessChecker:
    """Every member answered a linearizable read within the bound after the final heal."""

    name = "liveness"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the final state; UNKNOWN when the run ended before there was one."""
        final = recording.final
        if final is None:
            return Result(self.name, Verdict.UNKNOWN, "the run ended before the cluster's recovery was observed")
        stats = {"recovery_s": final.recovery_s, "bound_s": final.recovery_bound_s}
        if final.recovered:
            return Result(self.name, Verdict.VALID, stats=stats)
        bound_s = final.recovery_bound_s or 0.0
        who = ", ".join(f"{node} ({error})" for node, error in sorted(final.not_recovered.items()))
        story = f"{bound_s:g} s after all faults were healed, the cluster had not recovered: {who or 'no leader'}"
        stalled_s = sum(final.stalls_ms) / 1e3
        if stalled_s > STALLED_SHARE * bound_s:
            reason = f"{story}; but the harness itself stalled for {stalled_s:.1f} s meanwhile, so nobody can tell"
            return Result(self.name, Verdict.UNKNOWN, reason, stats=stats)
        anomaly = Anomaly("liveness", story, details={"members": dict(final.not_recovered)})
        return Result(self.name, Verdict.INVALID, story, (anomaly,), stats=stats)
