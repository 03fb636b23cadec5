"""Links between nodes: in order while healthy; cut, shaped, lossy, duplicating, reordering when told to be; healed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from splitvote.harness import clock
from splitvote.harness.clock import VirtualLoop
from splitvote.harness.cluster import LinkCounter, LinkShape
from splitvote.harness.errors import ConfigError, NemesisError
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.network import Network
from splitvote.harness.simulation.options import ServerOptions, options_of

Body = Callable[[Network, list[tuple[float, int]]], Awaitable[None]]
AB = ("a", "b")


def on_network(body: Body, *, seed: int = 1) -> None:
    """Run a body on two nodes; what b gets is in the list, with the time."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        got: list[tuple[float, int]] = []
        receivers = {"a": lambda message: None, "b": lambda message: got.append((loop.time(), message))}
        await body(Network(loop, seed, receivers), got)

    clock.run(main())


async def send(network: Network, numbers: range, *, gap_s: float = 0.0, size_bytes: int = 100) -> None:
    for number in numbers:
        network.link(*AB).send(number, size_bytes)
        if gap_s:
            await asyncio.sleep(gap_s)


def test_a_healthy_link_delivers_all_in_order_within_milliseconds() -> None:
    async def body(network: Network, got: list[tuple[float, int]]) -> None:
        await send(network, range(500))
        await asyncio.sleep(0.01)
        assert [number for _, number in got] == list(range(500))
        assert (await network.counters())[AB] == LinkCounter(50_000, 50_000)
        assert (await network.counters())["b", "a"] == LinkCounter(0, 0)

    on_network(body)


def test_a_cut_delivers_nothing_and_may_hold_back() -> None:
    """Lost or delivered late, whole and in order, as chance has it for each cut."""
    late: list[int] = []

    async def body(network: Network, got: list[tuple[float, int]]) -> None:
        await network.cut([AB])
        await send(network, range(5))
        await asyncio.sleep(10)
        assert got == []
        assert (await network.counters())[AB] == LinkCounter(500, 0)
        await network.heal()
        await asyncio.sleep(1)
        assert [number for _, number in got] in ([], [0, 1, 2, 3, 4])
        late.append(len(got))
        await send(network, range(5, 6))
        await asyncio.sleep(1)
        assert got[-1][1] == 5

    for seed in range(12):
        on_network(body, seed=seed)
    assert set(late) == {0, 5}


def test_a_slow_link_delays_and_is_fast_again_when_healed() -> None:
    async def body(network: Network, got: list[tuple[float, int]]) -> None:
        await network.shape([AB], LinkShape(delay_ms=200, jitter_ms=50))
        await send(network, range(20))
        await asyncio.sleep(0.14)
        assert got == []
        await asyncio.sleep(0.2)
        assert [number for _, number in got] == list(range(20))
        await network.heal([AB])
        before_s = asyncio.get_running_loop().time()
        await send(network, range(20, 21))
        await asyncio.sleep(1)
        assert got[-1][0] - before_s < 0.01

    on_network(body)


def test_a_rate_is_kept_and_what_waits_goes_at_once_when_healed() -> None:
    async def body(network: Network, got: list[tuple[float, int]]) -> None:
        await network.shape([AB], LinkShape(rate_bytes_s=1_000))
        await send(network, range(100))
        await asyncio.sleep(2)
        counter = (await network.counters())[AB]
        assert counter.offered_bytes == 10_000
        assert 1_800 <= counter.delivered_bytes <= 2_000
        await network.heal()
        await asyncio.sleep(0.1)
        assert [number for _, number in got] == list(range(100))

    on_network(body)


def test_loss_duplication_and_reordering() -> None:
    async def body(network: Network, got: list[tuple[float, int]]) -> None:
        link = network.link(*AB)
        link.reshape(LinkShape(loss=0.3))
        await send(network, range(1000), gap_s=0.001)
        assert 550 < len(got) < 850
        got.clear()
        link.reshape(LinkShape(duplicate=0.5))
        await send(network, range(1000), gap_s=0.001)
        await asyncio.sleep(1)
        assert {number for _, number in got} == set(range(1000))
        assert 1350 < len(got) < 1650
        got.clear()
        link.reshape(LinkShape(reorder=0.5))
        await send(network, range(1000), gap_s=0.001)
        await asyncio.sleep(1)
        numbers = [number for _, number in got]
        assert sorted(numbers) == list(range(1000)) != numbers
        await network.heal()
        got.clear()
        await send(network, range(100))
        await asyncio.sleep(1)
        assert [number for _, number in got] == list(range(100))

    on_network(body)


def test_a_link_that_there_is_not_is_named() -> None:
    async def body(network: Network, got: list[tuple[float, int]]) -> None:
        with pytest.raises(NemesisError, match="no link"):
            await network.cut([("a", "z")])

    on_network(body)


def test_chance_is_a_function_of_seed_and_name() -> None:
    def draws(seed: int, name: str) -> list[float]:
        chance = Chance(seed, name)
        return [chance.part() for _ in range(1200)]

    assert draws(1, "a") == draws(1, "a")
    assert draws(1, "a") != draws(2, "a")
    assert draws(1, "a") != draws(1, "b")
    assert all(0 <= part < 1 for part in draws(3, "c"))
    assert 0.45 < sum(draws(4, "d")) / 1200 < 0.55
    assert len(set(draws(5, "e"))) == 1200


def test_flags_of_etcd_are_read_or_refused() -> None:
    flags = ["--snapshot-count=100", "--election-timeout=500", "--heartbeat-interval=50"]
    assert options_of(flags) == ServerOptions(snapshot_count=100, election_timeout_s=0.5, heartbeat_s=0.05)
    with pytest.raises(ConfigError, match="did you mean 'snapshot-count'"):
        options_of(["--snapshot-cuont=100"])
    with pytest.raises(ConfigError, match="not a whole number"):
        options_of(["--snapshot-count=many"])
