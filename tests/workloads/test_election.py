"""The election workload: candidates that always come back, observers, unique values, an end that anybody can win."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.etcd.bindings.election import KEY_GONE, NOTHING_WON
from splitvote.harness.generator import Context, clients, lift, time_limit
from splitvote.harness.generator.simulation import imperfect, perfect, simulate
from splitvote.harness.op import Op
from splitvote.workloads import WorkloadOptions, workload_named
from splitvote.workloads.election import Candidate

REIGNING = {"write", "proclaim", "resign", "abandon", "retire"}


def options(concurrency: int = 8, **more: Any) -> WorkloadOptions:
    return WorkloadOptions(concurrency=concurrency, rate=200, **more)


def simulated(how: Callable[..., list[Op]] = perfect, *, seconds: float = 20, concurrency: int = 8) -> list[Op]:
    generator = clients(workload_named("election", options(concurrency)).generator)
    return how(time_limit(seconds, generator), concurrency=concurrency)


@pytest.mark.parametrize("how", [perfect, imperfect])
def test_values_never_come_twice(how: Callable[..., list[Op]]) -> None:
    values = [op.value for op in simulated(how) if op.type == "invoke" and op.f in ("campaign", "proclaim", "write")]
    assert len(values) == len(set(values)) > 100


@pytest.mark.parametrize("how", [perfect, imperfect])
def test_a_process_reigns_only_in_the_election_that_it_has_won(how: Callable[..., list[Op]]) -> None:
    """And every kind of operation occurs, by both ways, in both elections."""
    leads: dict[int, str] = {}
    kinds: Counter[str] = Counter()
    for op in simulated(how, seconds=60):
        if op.type == "invoke" and op.f in REIGNING:
            assert leads.get(op.process) == op.key
        if op.type == "invoke":
            kinds.update([op.f, str(op.key), (op.extra or {}).get("api", "none")])
        if op.type == "info" or (op.f in ("resign", "retire") and op.type != "invoke"):
            leads.pop(op.process, None)
        elif op.f == "campaign" and op.type == "ok":
            leads[op.process] = op.key
    assert set(kinds) == REIGNING | {"campaign", "leader", "observe", "e0", "e1", "client", "server", "none"}
    assert min(kinds.values()) >= 5, kinds


def test_a_candidate_that_abandoned_its_session_only_meets_the_fence() -> None:
    """Nothing but guarded operations follow, until one is refused."""
    abandoned: set[int] = set()
    for op in simulated(seconds=30):
        if op.type == "invoke" and op.process in abandoned:
            assert op.f in ("write", "proclaim")
        if op.f == "abandon" and op.type == "ok":
            abandoned.add(op.process)
    assert abandoned


@pytest.mark.parametrize("has_abandoned", [False, True])
def test_after_a_refusal_a_candidate_campaigns_again(has_abandoned: bool) -> None:
    """What a refusal is, the error's class tells; an operation that failed otherwise ends no reign."""
    ctx = Context.start(1)
    leading = Candidate(("e0",), ("client",), 5.0, 2, leads="e0", has_abandoned=has_abandoned)
    write = Op(process=0, f="write", key="e0", value="1")
    for completion, leads in (
        (write.completed("ok"), "e0"),
        (write.completed("fail", error="not-connected: failed to connect"), "e0"),
        (write.completed("fail", error=KEY_GONE), None),
        (write.completed("fail", error=NOTHING_WON), None),
        (write.completed("info", error="deadline: lost"), None),
    ):
        after = leading.update(ctx, completion)
        assert isinstance(after, Candidate)
        assert after.leads == leads
        answer = after.op(ctx)
        assert answer is not None
        assert isinstance(answer[0], Op)
        assert (answer[0].f == "campaign") == (leads is None)


@pytest.mark.parametrize("concurrency", [3, 4, 5, 10, 17])
def test_there_are_observers_and_candidates_at_any_concurrency(concurrency: int) -> None:
    roles: dict[int, set[str]] = {}
    for op in simulated(concurrency=concurrency):
        roles.setdefault(op.process, set()).add("observer" if op.f in ("observe", "leader") else "candidate")
    assert len(roles) == concurrency
    assert all(len(role) == 1 for role in roles.values())
    assert sum(role == {"observer"} for role in roles.values()) == max(1, concurrency // 4)


def test_too_few_clients_and_unknown_ways_are_the_users_mistakes() -> None:
    with pytest.raises(ConfigError, match="3 client threads"):
        workload_named("election", options(2))
    with pytest.raises(ConfigError, match="api"):
        workload_named("election", options(extra={"api": "clent"}))


@pytest.mark.parametrize("api", ["client", "server"])
def test_an_api_can_be_chosen(api: str) -> None:
    generator = clients(workload_named("election", options(extra={"api": api})).generator)
    ops = perfect(time_limit(5, generator), concurrency=8)
    assert {(op.extra or {})["api"] for op in ops if op.f in ("campaign", "observe", "leader")} == {api}


def test_at_the_end_everybody_retires_then_each_election_is_won_once_then_everybody_asks() -> None:
    """Whoever still led would keep the final campaigns from winning."""
    ending = workload_named("election", options()).final(["e0", "e1"])
    history = perfect(lift(ending), concurrency=4)
    invoked = [(op.f, op.key) for op in history if op.type == "invoke"]
    assert invoked[:4] == [("retire", None)] * 4
    assert invoked[4:6] == [("campaign", "e0"), ("campaign", "e1")]
    assert sorted(invoked[6:]) == [("leader", "e0")] * 4 + [("leader", "e1")] * 4
    assert all((op.extra or {}).get("is_final") for op in history if op.f == "campaign")
    assert workload_named("election", options()).final([]) is None


def test_a_lost_final_campaign_is_tried_again_but_not_for_ever() -> None:
    """One at a time: two at once would wait for each other."""
    ending = lift(workload_named("election", options()).final(["e0"]))
    history = simulate(ending, lambda op, ctx: ("fail" if op.f == "campaign" else "ok", 1_000), concurrency=4)
    campaigns = [op.type for op in history if op.f == "campaign"]
    assert campaigns == ["invoke", "fail"] * 3
