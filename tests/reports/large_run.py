"""A stored run of any size, written as text at once: what a million operations look like under kills and cuts.

Latencies, outcomes and faults come from a seeded generator; the lines are formatted
by hand, since encoding two million records one by one would take longer than any
test may.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.recording import ClusterSample, FaultRecord, MemberSample, RunConfig
from splitvote.harness.result import Result, Verdict
from splitvote.harness.store import Results

NODES: Final = ("n1", "n2", "n3")
S: Final = 1_000_000_000
_FAULT_EVERY_S: Final = 10.0
_FAULT_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRun:
    """How large: operations in all, at how many a second, by how many client threads, over how many keys."""

    operations: int
    rate: float = 10_000.0
    threads: int = 50
    keys: int = 64
    seed: int = 1

    @property
    def length_s(self) -> float:
        """How long the run took."""
        return self.operations / self.rate

    def write(self, directory: Path) -> Path:
        """Write the run and return its directory."""
        directory.mkdir(parents=True)
        with (directory / "history.jsonl").open("w") as history:
            history.writelines(self._lines())
        encode = msgspec.json.encode
        (directory / "faults.jsonl").write_bytes(b"".join(encode(fault) + b"\n" for fault in self._faults()))
        (directory / "cluster.jsonl").write_bytes(b"".join(encode(sample) + b"\n" for sample in self._samples()))
        (directory / "config.json").write_bytes(encode(self._config()))
        found = Results(Verdict.VALID, (Result("stats", Verdict.VALID),), duration_s=self.length_s)
        (directory / "results.json").write_bytes(encode(found))
        return directory

    def _lines(self) -> Iterator[str]:
        """Each thread's operations one after another, merged by time: a record a line."""
        draw = random.Random(self.seed)
        period_ns = int(self.threads / self.rate * S)
        process = list(range(self.threads))
        index, revision = 0, 1
        for turn in range(self.operations // self.threads):
            records = []
            for thread in range(self.threads):
                number = turn * self.threads + thread
                start_ns = turn * period_ns + int(draw.random() * period_ns * 0.4)
                under_fault = start_ns / S % _FAULT_EVERY_S < _FAULT_S
                luck = draw.random()
                outcome = "ok" if luck < (0.9 if under_fault else 0.999) else "fail" if luck < 0.995 else "info"
                length_ns = int(draw.lognormvariate(0, 0.6) * (900_000 if under_fault else 250_000))
                end_ns = start_ns + min(length_ns, int(period_ns * 0.55))
                who, key, node = process[thread], number % self.keys, NODES[thread % len(NODES)]
                f = ("read", "write", "cas")[number % 3]
                value = "[1,2]" if f == "cas" else "null" if f == "read" else str(number)
                head = f'"process":{who},"f":"{f}","key":"r{key}","value":{value},"node":"{node}"'
                records.append((start_ns, f'"type":"invoke",{head}'))
                more = "" if outcome == "ok" else ',"error":"deadline: no answer"'
                records.append((end_ns, f'"type":"{outcome}",{head}{more}'))
                if outcome == "info":
                    process[thread] += self.threads
            records.sort()
            for time_ns, rest in records:
                revision += '"type":"ok"' in rest
                yield f'{{"index":{index},"time_ns":{time_ns},{rest},"revision":{revision}}}\n'
                index += 1

    def _faults(self) -> Iterator[FaultRecord]:
        for number in range(int(self.length_s / _FAULT_EVERY_S) or 1):
            family, target = ("kill", "partition", "pause")[number % 3], NODES[number % 3]
            steps = (("starting", 0.0), ("active", 0.1), ("healing", _FAULT_S), ("healed", _FAULT_S + 0.4))
            for phase, after_s in steps:
                time_ns = int((number * _FAULT_EVERY_S + after_s) * S)
                yield FaultRecord(number, family, family, phase, time_ns, (target,), proof="seen")  # type: ignore[arg-type]

    def _samples(self) -> Iterator[ClusterSample]:
        for step in range(int(self.length_s * 2) + 1):
            leader = NODES[int(step / 2 / _FAULT_EVERY_S) % 3]
            members = {
                node: MemberSample(leader=leader, term=2 + step // 20, revision=1 + step * 1000) for node in NODES
            }
            yield ClusterSample(step * S // 2, members, loop_lag_ms=step % 7 / 3)

    def _config(self) -> RunConfig:
        return RunConfig(
            workload="register",
            seed=self.seed,
            cluster="local",
            nodes=NODES,
            splitvote_version="0.1.0",
            started_at="2024-11-05T02:30:00+00:00",
            faults=("kill", "partition", "pause"),
            time_s=self.length_s,
            rate=self.rate,
            concurrency=self.threads,
        )
