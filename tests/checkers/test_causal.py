"""Causal: a site's own order. Causal-reverse: no write without those acknowledged before it began."""

from __future__ import annotations

import msgspec
import pytest

from splitvote.checkers.causal import CausalChecker, CausalReverseChecker
from splitvote.harness.history import History
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import Driver, SiteSystem, WriteSystem, verdicts

SITE = """
0 invoke read-init
0 ok read-init {}
0 invoke write 1
0 ok write
0 invoke read
0 ok read {}
0 invoke write 2
0 ok write
0 invoke read
0 ok read {}
"""


@pytest.mark.parametrize("seen", [(0, 1, 2), ("null", 1, 2)])
def test_a_site_that_sees_its_own_writes(seen: tuple[object, ...]) -> None:
    assert judge(CausalChecker(), SITE.format(*seen)).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("seen", "words", "indices"),
    [
        ((1, 1, 2), "returned 1, not the 0 that it began with", [0, 1]),
        ((0, 0, 2), "returned 0, not the 1 that process 0's write of 1 (record 2, ok at 3) had left", [2, 3, 4, 5]),
        ((0, 1, 1), "returned 1, not the 2 that process 0's write of 2 (record 6, ok at 7) had left", [6, 7, 8, 9]),
        ((0, 1, "null"), "returned 0, not the 2", [6, 7, 8, 9]),
    ],
)
def test_a_site_that_misses_its_own_write(seen: tuple[object, ...], words: str, indices: list[int]) -> None:
    text = SITE.format(*seen)
    result = judge(CausalChecker(), text)
    assert result.verdict is Verdict.INVALID
    assert words in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == indices
    assert judge(CausalChecker(), only(history(text), result)).verdict is Verdict.INVALID


CRASHED = """
0 invoke write 1
0 info write
5 invoke write 2
5 ok write
"""


@pytest.mark.parametrize(
    ("reads", "verdict"),
    [
        ([2, 2], Verdict.VALID),
        ([2, 1, 1], Verdict.VALID),  # the crashed write took effect late
        ([1, 2], Verdict.INVALID),  # and then nothing can bring 2 back
        ([2, 1, 2], Verdict.INVALID),
        ([0], Verdict.INVALID),
    ],
)
def test_crashed_writes_take_effect_once_or_never(reads: list[int], verdict: Verdict) -> None:
    text = CRASHED + "".join(f"5 invoke read\n5 ok read {value}\n" for value in reads)
    assert judge(CausalChecker(), text).verdict is verdict


def test_overlapping_operations_have_no_causal_order() -> None:
    result = judge(CausalChecker(), "0 invoke write 1\n1 invoke read\n0 ok write\n1 ok read 5")
    assert result.verdict is Verdict.UNKNOWN
    assert "overlap" in str(result.reason)


def linked(*links: tuple[object, object]) -> History:
    """Reads, each with the position it got and the one it follows."""
    text = "".join("0 invoke read\n0 ok read 0\n" for _ in links)
    ops = list(history(text))
    for number, (position, link) in enumerate(links):
        ops[2 * number] = msgspec.structs.replace(ops[2 * number], extra={"link": link})
        ops[2 * number + 1] = msgspec.structs.replace(ops[2 * number + 1], extra={"position": position})
    return History(ops)


def test_links_chain_positions() -> None:
    assert judge(CausalChecker(), linked((7, "init"), (9, 7), (12, 9), (13, "init"))).verdict is Verdict.VALID
    result = judge(CausalChecker(), linked((7, "init"), (9, 7), (12, 7)))
    assert (result.verdict, result.anomalies[0].name) == (Verdict.INVALID, "causal: broken link")
    assert "links to position 7, but the last position was 9" in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == [2, 3, 4, 5]


def test_after_a_crash_nobody_knows_the_last_position() -> None:
    ops = list(linked((7, "init"), (9, 7), (12, 8)))
    ops[3] = msgspec.structs.replace(ops[3], type="info", extra=None)
    assert judge(CausalChecker(), History(ops)).verdict is Verdict.VALID


def test_sites_healthy_and_stale() -> None:
    import random

    def one_client(bug: str | None, seed: int) -> History:
        rng = random.Random(seed)
        driver = Driver(SiteSystem(bug), rng, False)
        for _ in range(60):
            driver.start(driver.free_process(), *driver.system.ask(rng))
            while driver.open:
                driver.step()
        return History(driver.ops)

    assert all(judge(CausalChecker(), one_client(None, seed)).verdict is Verdict.VALID for seed in range(40))
    assert sum(judge(CausalChecker(), one_client("stale", seed)).verdict is Verdict.INVALID for seed in range(40)) >= 15


def test_causal_agrees_with_brute_force() -> None:
    found = fuzz("causal", histories=500, seed=18)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 50


REVERSE = """
0 invoke write 1
0 ok write
1 invoke write 2
1 ok write
2 invoke read
2 ok read {}
"""


@pytest.mark.parametrize("seen", ["[1, 2]", "[1]", "[]"])
def test_earlier_writes_come_first(seen: str) -> None:
    """A read of nothing is stale, not reversed."""
    assert judge(CausalReverseChecker(), REVERSE.format(seen)).verdict is Verdict.VALID


def test_a_later_write_without_an_earlier_one() -> None:
    text = REVERSE.format("[2]")
    result = judge(CausalReverseChecker(), text)
    assert (result.verdict, result.reason) == (Verdict.INVALID, "a later write without an earlier one in 1 read")
    assert result.anomalies[0].story == (
        "Process 2's read (record 4, ok at 5) shows 2 but not 1, though process 0's write of 1 (record 0, ok at 1) "
        "was acknowledged before process 1's write of 2 (record 2, ok at 3) began."
    )
    assert judge(CausalReverseChecker(), only(history(text), result)).verdict is Verdict.INVALID


def test_concurrent_writes_may_show_in_any_order() -> None:
    text = "0 invoke write 1\n1 invoke write 2\n0 ok write\n1 ok write\n2 invoke read\n2 ok read [2]"
    assert judge(CausalReverseChecker(), text).verdict is Verdict.VALID


def test_crashed_writes_demand_but_are_not_demanded() -> None:
    crashed_later = REVERSE.replace("1 ok write", "1 info write").format("[2]")
    crashed_earlier = REVERSE.replace("0 ok write", "0 info write").format("[2]")
    assert judge(CausalReverseChecker(), crashed_later).verdict is Verdict.INVALID
    assert judge(CausalReverseChecker(), crashed_earlier).verdict is Verdict.VALID


def test_without_reads_it_is_unknown() -> None:
    assert judge(CausalReverseChecker(), "0 invoke write 1\n0 ok write").verdict is Verdict.UNKNOWN


def test_writers_healthy_and_reversed() -> None:
    assert verdicts(CausalReverseChecker(), lambda: WriteSystem(None)) == {Verdict.VALID: 40}
    assert verdicts(CausalReverseChecker(), lambda: WriteSystem("reversed"))[Verdict.INVALID] >= 20


def test_causal_reverse_agrees_with_brute_force() -> None:
    found = fuzz("causal-reverse", histories=500, seed=19)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 40
