"""Every checker of the library is made by its name."""

from __future__ import annotations

import pytest

from splitvote.checkers.library import NAMES, checker_named
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import SUBJECTS
from tests.checkers.library_histories import judge


@pytest.mark.parametrize("name", NAMES)
def test_results_carry_the_name(name: str) -> None:
    """And a history in which nothing of the kind happened is not called valid."""
    result = judge(checker_named(name), "0 invoke elect 1\n0 ok elect 1")
    assert (result.checker, result.verdict) == (name, Verdict.UNKNOWN)


def test_options_and_unknown_names() -> None:
    strict = checker_named("set-full", {"linearizable": True})
    stale = "0 invoke add 1\n0 ok add\n0 invoke read\n0 ok read []\n0 invoke read\n0 ok read [1]"
    assert judge(strict, stale).verdict is Verdict.INVALID
    with pytest.raises(KeyError):
        checker_named("elle")


def test_the_fuzz_knows_them_all() -> None:
    assert {name.removesuffix(" linearizable") for name in SUBJECTS} == set(NAMES)
