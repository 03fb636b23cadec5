"""Plausible stored runs for tests of the reports: a register under kills, pauses and cuts, as a real run writes it.

Nothing is executed: latencies, leaders and outcomes are drawn from a seeded
generator, so that a run's size, verdict and nastiness can be chosen.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import ClusterSample, FaultRecord, FinalState, MemberReading, MemberSample, RunConfig
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.harness.store import Results

NODES = ("n1", "n2", "n3", "n4", "n5")
STARTED = datetime(2024, 11, 5, 2, 30, tzinfo=UTC)
S = 1_000_000_000

HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "<!-- <script>",
    "\u202egnp.exe\u202c \u2066isolate\u2069",
    "line\u2028separator\u2029paragraph",
    "nul\x00bell\x07",
    "{{ 7 * 7 }} {% raw %}",
    "javascript:window.pwned=1",
    "\U0001f9e8 caf\u00e9 \u05d0\u05d1",
    "'; window.pwned = 1; //",
]


@dataclass
class FakeRun:
    """One run in the making; ``write`` puts it into a directory."""

    seed: int = 7
    seconds: int = 60
    rate: float = 120.0
    threads: int = 10
    keys: int = 8
    verdict: Verdict = Verdict.VALID
    hostile: bool = False
    random: random.Random = field(init=False)
    records: list[Op] = field(default_factory=list, init=False)
    faults: list[FaultRecord] = field(default_factory=list, init=False)
    leaders: list[tuple[float, str, int]] = field(default_factory=list, init=False)
    down: list[tuple[float, float, str, str]] = field(default_factory=list, init=False)
    """(from, to, node, family) in s."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._plan_faults()
        self._make_operations()

    # -- faults and leaders -------------------------------------------------

    def _plan_faults(self) -> None:
        now, number, term = 4.0, 0, 2
        leader = "n3"
        self.leaders.append((0.0, leader, term))
        while now < self.seconds - 6:
            family = self.random.choice(["kill", "pause", "partition", "partition", "slow", "admin"])
            targets = self._targets(family, leader)
            lasts = 0.15 if family == "admin" else self.random.uniform(2.0, 5.0)
            self._fault(number, family, targets, now, lasts)
            if leader in targets and family in ("kill", "pause", "partition"):
                leader = next(node for node in NODES if node not in targets)
                term += self.random.choice([1, 1, 2])
                self.leaders.append((now + self.random.uniform(1.0, 1.8), leader, term))
            number += 1
            now += lasts + self.random.uniform(1.5, 4.0)

    def _targets(self, family: str, leader: str) -> tuple[str, ...]:
        if family == "partition":
            return tuple(sorted(self.random.sample(NODES, 2)))
        if self.random.random() < 0.5:
            return (leader,)
        return (self.random.choice(NODES),)

    def _fault(self, number: int, family: str, targets: tuple[str, ...], at: float, lasts: float) -> None:
        named = {
            "kill": (
                "kill",
                "the process is gone (no pid) and the port refuses connections",
                "answers a linearizable read",
            ),
            "pause": ("pause", "all 14 threads are in state T", "threads run again; answers a linearizable read"),
            "partition": (
                "halves",
                "0 bytes crossed 12 cut links while 48 kB were offered",
                "bytes cross every link again",
            ),
            "slow": ("slow links", "append round trips took 212 ms (before: 0.4 ms)", "round trips are back at 0.5 ms"),
            "admin": ("compact", "compact revision went from 1021 to 2388", "nothing to undo"),
        }
        fault, proof, heal_proof = named[family]
        common: dict[str, Any] = {"id": number, "family": family, "fault": fault, "targets": targets}
        unproven = number == 5
        observed = {"before": {"n1": 12, "n2": 9}, "after": {"n1": 12, "n2": 9}}
        steps = [
            (0.0, "starting", None, {}),
            (0.06, "unproven" if unproven else "active", None if unproven else proof, observed),
            (lasts, "healing", None, {}),
            (
                lasts + self.random.uniform(0.1, 1.2),
                "healed",
                heal_proof,
                {"recovery_s": round(self.random.uniform(0.02, 2.4), 3)},
            ),
        ]
        for after, phase, words, seen in steps:
            self.faults.append(
                FaultRecord(phase=phase, time_ns=int((at + after) * S), proof=words, observed=seen, **common)  # type: ignore[arg-type]
            )
        for target in targets:
            self.down.append((at, at + lasts, target, family))
        for after, verb in ((0.0, "start"), (0.06, "start"), (lasts, "stop"), (lasts + 0.3, "stop")):
            self.records.append(
                Op(
                    time_ns=int((at + after) * S),
                    process=NEMESIS,
                    type="info",
                    f=f"{verb}-{fault}",
                    value=list(targets),
                )
            )

    def leader_at(self, time_s: float) -> tuple[str, int]:
        return next((leader, term) for since, leader, term in reversed(self.leaders) if since <= time_s)

    def is_down(self, node: str, time_s: float, *families: str) -> bool:
        return any(a <= time_s <= b and node == n and (not families or f in families) for a, b, n, f in self.down)

    # -- operations -----------------------------------------------------------

    def _make_operations(self) -> None:
        free = [0.0] * self.threads
        process = list(range(self.threads))
        now, value, revision = 0.05, 0, 2
        state: dict[str, Any] = {}
        while now < self.seconds:
            now += self.random.expovariate(self.rate)
            thread = min(range(self.threads), key=free.__getitem__)
            now = max(now, free[thread])
            node = NODES[thread % len(NODES)]
            key = f"r{self.random.randrange(self.keys)}"
            f = self.random.choice(["get", "get", "put", "cas"])
            value += 1
            asked: Any = {"get": None, "put": value, "cas": [state.get(key), value]}[f]
            if self.hostile and value % 9 == 0:
                key, asked = self.random.choice(HOSTILE), self.random.choice(HOSTILE)
            invoke = Op(
                time_ns=int(now * S),
                process=process[thread],
                type="invoke",
                f=f,
                key=key,
                value=asked,
                node=node,
                intended_ns=int((now - 0.0004) * S),
            )
            type_, error, length = self._outcome(f, node, now)
            answer: Any = asked
            if type_ == "ok":
                revision += f != "get"
                if f == "get":
                    answer = state.get(key)
                else:
                    state[key] = value
            done = invoke.completed(type_, value=answer, error=error, revision=revision if type_ == "ok" else None)
            done = msgspec.structs.replace(done, time_ns=int((now + length) * S))
            self.records += [invoke] if type_ == "info" and self.random.random() < 0.02 else [invoke, done]
            free[thread] = now + length
            if type_ == "info":
                process[thread] += self.threads
        if self.hostile:
            big = Op(time_ns=self.seconds * S, process=10_000, type="invoke", f="put", key="big", value="x" * 1_000_000)
            self.records += [big, msgspec.structs.replace(big.completed("ok"), time_ns=self.seconds * S + 5_000_000)]
        self.records.sort(key=lambda op: op.time_ns)
        self.records = [msgspec.structs.replace(op, index=place) for place, op in enumerate(self.records)]

    def _outcome(self, f: str, node: str, now: float) -> tuple[Any, str | None, float]:
        leader, _ = self.leader_at(now)
        quick = 0.0012 * math.exp(self.random.gauss(0, 0.5))
        if self.is_down(node, now, "kill"):
            return "fail", "refused: failed to connect to all addresses; last error: Connection refused", 0.0006
        if self.is_down(node, now, "pause") or self.is_down(leader, now, "kill", "pause", "partition"):
            outcome = "fail" if f == "get" else "info"
            return outcome, "deadline: DEADLINE_EXCEEDED: Deadline Exceeded", 1.0 + quick
        if self.is_down(node, now, "partition"):
            outcome = "fail" if f == "get" else "info"
            return outcome, "timeout: etcdserver: request timed out, possibly due to connection lost", 0.9 + quick
        slow = 0.2 if any(a <= now <= b and fam == "slow" for a, b, _, fam in self.down) else 0.0
        if f == "cas" and self.random.random() < 0.3:
            return "fail", "cas: the value was another", quick + slow
        return "ok", None, quick + slow * self.random.random()

    # -- everything else -----------------------------------------------------

    def config(self) -> RunConfig:
        command = (
            "splitvote",
            "run",
            "register",
            "--faults",
            "kill,pause,partition,slow,admin",
            "--time",
            str(self.seconds),
            "--rate",
            "120",
            "--seed",
            str(self.seed),
        )
        return RunConfig(
            workload="register",
            seed=self.seed,
            cluster="local",
            nodes=NODES,
            splitvote_version="0.1.0",
            started_at=STARTED.isoformat(),
            faults=("kill", "pause", "partition", "slow", "admin"),
            time_s=float(self.seconds),
            rate=self.rate,
            concurrency=self.threads,
            system_versions=dict.fromkeys(NODES, "etcd 3.5.1") | {"n5": "etcd 3.5.16"},
            known_defects=(
                "etcd 3.5.1 may lose agreement between members after a crash (issues 13766, 14685): use 3.5.3 or later",
            ),
            options={"keys": self.keys, "request_timeout_s": 1.0},
            command=command,
        )

    def samples(self) -> list[ClusterSample]:
        found = []
        for step in range(self.seconds * 2):
            now = step / 2 + 0.01
            revision = sum(
                op.type == "ok" and op.f != "get" and op.time_ns <= now * S
                for op in self.records[:: max(1, len(self.records) // 400)]
            )
            revision *= max(1, len(self.records) // 400)
            leader, term = self.leader_at(now)
            members = {}
            for node in NODES:
                if self.is_down(node, now, "kill", "pause"):
                    members[node] = MemberSample(error="no answer within 1 s")
                    continue
                lag = 40 if self.is_down(node, now, "partition") else 0
                says = None if self.is_down(leader, now, "kill", "pause", "partition") else leader
                members[node] = MemberSample(
                    leader=says,
                    term=term,
                    revision=max(1, revision - lag),
                    applied_index=revision + 60 - lag,
                    answer_ms=0.8,
                )
            wall = int(STARTED.timestamp() * S) + int(now * S)
            lag_ms = abs(self.random.gauss(1.2, 1.0)) + (180 if step == 47 else 0)
            found.append(ClusterSample(int(now * S), members, wall_ns=wall, loop_lag_ms=round(lag_ms, 2)))
        return found

    def results(self) -> Results:
        results = [
            Result("stats", Verdict.VALID, stats={"total": {"invoked": len(self.records) // 2}}),
            Result("liveness", Verdict.VALID, stats={"recovery_s": 1.31, "bound_s": 30.0}),
            Result("logs", Verdict.VALID, stats={"lines": 4123}),
        ]
        if self.verdict is Verdict.INVALID:
            results += [self._disagreement(), self._nonlinearizable()]
        elif self.verdict is Verdict.UNKNOWN:
            reason = "vacuous: cas: 3 ok of the 10 needed; faults: no pause was proven to take effect"
            results.append(Result("vacuity", Verdict.UNKNOWN, reason, evidence={"missing": ["cas", "pause"]}))
        else:
            results += [
                Result("linearizability", Verdict.VALID, stats={"keys": self.keys, "steps": 48_211}),
                Result("agreement", Verdict.VALID, stats={"members": 5}),
            ]
        return Results(
            self.verdict,
            tuple(results),
            duration_s=float(self.seconds),
            harness={"loop_lag_ms": {"p50": 1.1, "max": 181.0}, "invoked_share": 0.993},
        )

    def _disagreement(self) -> Result:
        writes = [op for op in self.records if op.type == "ok" and op.f == "put" and op.revision][40:42]
        keys: dict[str, Any] = {}
        for op in writes:
            state = [op.value, op.revision, 4, 2]
            keys[str(op.key)] = {node: None if node == "n4" else state for node in NODES}
        first = writes[0]
        story = (
            f"{len(keys)} key(s) differ between the members after everything was healed and settled; {first.key!r} is "
            f"n1, n2, n3, n5: {first.value!r}; n4: absent; a read answers differently depending on the member asked"
        )
        details = {"count": len(keys), "keys": keys, "revisions": {node: 2031 - 2 * (node == "n4") for node in NODES}}
        anomaly = Anomaly("member agreement: keys", story, details=details)
        return Result("agreement", Verdict.INVALID, story, (anomaly,), stats={"members": 5})

    def _nonlinearizable(self) -> Result:
        middle = self.seconds * S // 3
        found = [op for op in self.records if op.key == "r1" and op.process != NEMESIS and op.time_ns > middle][:24]
        invokes = [op for op in found if op.type == "invoke" and any(o.process == op.process for o in found)]
        core = {op.process for op in invokes[6:9]}
        lines = [{"process": op.process, "what": op.f, "invoke": op.index, "completion": None} for op in invokes]
        story = (
            "key 'r1': no order of these operations explains what the clients saw, whenever the others took effect. "
            f"The 1204 operations before can be ordered; then process {invokes[8].process} fits nowhere."
        )
        details = {
            "model": "cas-register",
            "longest_prefix": 1204,
            "prefix_tail": lines[:8],
            "state": "412",
            "possible_states": ["412"],
            "cannot_be_placed": lines[8],
            "candidates": lines[9:11],
            "core": lines[6:9],
        }
        shown = tuple(op for op in found if op.process in core)
        anomaly = Anomaly("nonlinearizable", story, shown, key="r1", details=details)
        return Result("linearizability", Verdict.INVALID, story, (anomaly,), stats={"keys": self.keys, "nodes": 48_211})

    def final(self) -> FinalState:
        members = {
            node: MemberReading(revision=2031, applied_index=2100, hash=77, hash_revision=2031) for node in NODES
        }
        return FinalState(
            True, recovery_s=1.31, recovery_bound_s=30.0, settled=True, members=members, stalls_ms=(181.0,)
        )

    def log(self, node: str) -> bytes:
        lines = []
        for second in range(0, self.seconds * 4):
            at = STARTED + timedelta(seconds=second / 4, milliseconds=self.random.randrange(200))
            level = self.random.choices(["info", "warn", "error"], [30, 6, 1])[0]
            message = self.random.choice(
                [
                    "apply request took too long",
                    "prober detected unhealthy status",
                    "raft.node: elected leader",
                    "compacted Raft logs",
                    "lost TCP streaming connection with remote peer",
                ]
            )
            stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            lines.append(
                f'{{"level":"{level}","ts":"{stamp}","caller":"etcdserver/server.go:{second}","msg":"{message}","local-member-id":"8e9e05c52164694d"}}'.encode()
            )
        if self.hostile:
            lines += [text.encode() for text in HOSTILE if "\n" not in text] + [b"\xff\xfe broken \x80 utf-8"]
        return b"\n".join(lines) + b"\n"

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        encode = msgspec.json.encode
        for name, value in (("config", self.config()), ("results", self.results()), ("final", self.final())):
            (directory / f"{name}.json").write_bytes(encode(value))
        streams: tuple[tuple[str, list[Any]], ...] = (
            ("history", self.records),
            ("faults", self.faults),
            ("cluster", self.samples()),
        )
        for name, records in streams:
            (directory / f"{name}.jsonl").write_bytes(b"".join(encode(record) + b"\n" for record in records))
        (directory / "logs").mkdir(exist_ok=True)
        for node in NODES:
            (directory / "logs" / f"{node}.log").write_bytes(self.log(node))
        return directory
