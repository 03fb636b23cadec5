"""Processors of containers limited by docker and given back, by whoever comes after as well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from splitvote.harness.clusters.remote.composition import Container
from splitvote.harness.clusters.remote.throttles import ContainerThrottle
from splitvote.harness.errors import EnvironmentFailure, NemesisError


class FakeComposition:
    """A project whose containers docker remembers the settings of, and changes them as ``docker update`` does."""

    def __init__(self, **settings: dict[str, int]) -> None:
        self.by_id = {
            f"id-{service}": {"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0} | each for service, each in settings.items()
        }
        self.updates = 0

    def containers(self) -> dict[str, Container]:
        return {each[3:]: Container(id=each, state="running", address="", published={}) for each in self.by_id}

    def settings(self, container: str) -> dict[str, Any]:
        return dict(self.by_id[container])

    def update(self, container: str, options: list[str]) -> None:
        self.updates += 1
        for option in options:
            name, _, value = option.partition("=")
            now = self.by_id[container]
            if name == "--cpus" and now["CpuQuota"] > 0:
                raise EnvironmentFailure("Conflicting options: CPU Quota is set")
            if name == "--cpu-quota" and now["NanoCpus"]:
                raise EnvironmentFailure("Conflicting options: NanoCPUs is set")
            key = {"--cpus": "NanoCpus", "--cpu-quota": "CpuQuota", "--cpu-period": "CpuPeriod"}[name]
            changed = round(float(value) * 1e9) if name == "--cpus" else int(value)
            now[key] = changed or now[key]  # docker takes 0 for "as it is"


def test_a_container_is_limited_and_given_back_and_how_it_was_is_known_before() -> None:
    composition = FakeComposition(n1={}, n2={})
    throttle = ContainerThrottle(composition)  # type: ignore[arg-type]
    noted: list[tuple[int, dict[str, Any]]] = []

    async def run() -> None:
        await throttle.limit("n1", 0.05, lambda: noted.append((composition.updates, throttle.noted)))
        assert composition.by_id["id-n1"] == {"NanoCpus": 0, "CpuQuota": 5_000, "CpuPeriod": 100_000}
        await throttle.limit("n1", 0.03, lambda: noted.append((composition.updates, throttle.noted)))
        assert composition.by_id["id-n1"]["CpuQuota"] == 3_000
        lines = await throttle.lift(throttle.noted)
        assert lines == ["gave n1 its processors back"]
        assert composition.by_id["id-n1"]["CpuQuota"] == -1
        assert throttle.noted == {}
        assert await throttle.lift({}) == []

    asyncio.run(run())
    assert noted[0][0] == 0
    assert noted[0][1]["n1"]["quota_us"] == noted[1][1]["n1"]["quota_us"] == 0
    assert composition.by_id["id-n2"]["CpuQuota"] == 0


@pytest.mark.parametrize(
    "before", [{"NanoCpus": 1_500_000_000}, {"CpuQuota": 80_000, "CpuPeriod": 50_000}, {"CpuQuota": -1}]
)
def test_limits_that_were_there_before_are_there_again(before: dict[str, int]) -> None:
    """Said in docker's two ways, which it does not let be mixed; healed by another process, and again."""
    composition = FakeComposition(n1=before)
    throttle = ContainerThrottle(composition)  # type: ignore[arg-type]

    async def run() -> None:
        await throttle.limit("n1", 0.02, lambda: None)
        limited = composition.by_id["id-n1"]
        assert (limited["NanoCpus"], limited["CpuQuota"]) in ((20_000_000, 0), (0, 2_000))
        healer = ContainerThrottle(composition)  # type: ignore[arg-type]
        assert await healer.lift(throttle.noted) == ["gave n1 its processors back"]
        assert await healer.lift(throttle.noted) == []

    asyncio.run(run())
    for name, value in before.items():
        assert composition.by_id["id-n1"][name] == value


def test_a_container_that_is_gone_took_its_limit_with_it_and_one_that_never_was_cannot_be_limited() -> None:
    composition = FakeComposition(n1={})
    throttle = ContainerThrottle(composition)  # type: ignore[arg-type]

    async def run() -> None:
        await throttle.limit("n1", 0.02, lambda: None)
        composition.by_id = {"id-n1x": composition.by_id["id-n1"]}
        assert await throttle.lift(throttle.noted) == []
        with pytest.raises(NemesisError, match="n3 cannot be limited: it has no container"):
            await throttle.limit("n3", 0.02, lambda: None)

    asyncio.run(run())
