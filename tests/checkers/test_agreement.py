"""Member agreement: what settled members say is compared by revision, hash and key, and named in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitvote.checkers.agreement import AgreementChecker
from splitvote.harness.history import History
from splitvote.harness.recording import FinalState, MemberReading, Recording
from splitvote.harness.result import Budget, Result, Verdict

AGREED = MemberReading(
    revision=40, applied_index=90, compact_revision=10, hash_revision=40, hash=7, keys={"register/1": ("5", 39, 2, 12)}
)


def judge(members: dict[str, MemberReading], *, settled: bool = True) -> Result:
    final = FinalState(recovered=True, settled=settled, members=members)
    return AgreementChecker().check(Recording(History(), final=final), Budget())


def three(**of_n3: Any) -> dict[str, MemberReading]:
    return {"n1": AGREED, "n2": AGREED, "n3": msgspec.structs.replace(AGREED, **of_n3)}


def test_equal_members_agree() -> None:
    assert judge(three()).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("difference", "name", "words"),
    [
        ({"revision": 41}, "member agreement: revision", "n1, n2: 40; n3: 41"),
        ({"hash": 8}, "member agreement: hash", "at revision 40 differ: n1, n2: 7; n3: 8"),
        (
            {"keys": {"register/1": ("4", 38, 1, 38)}},
            "member agreement: keys",
            "'register/1' is n1, n2: '5' (mod_revision 39, version 2); n3: '4' (mod_revision 38, version 1)",
        ),
        ({"keys": {}}, "member agreement: keys", "n3: absent"),
    ],
)
def test_each_kind_of_difference_alone_is_found_and_named(difference: dict[str, Any], name: str, words: str) -> None:
    result = judge(three(**difference))
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    assert anomaly.name == name
    assert words in anomaly.story


def test_revisions_at_different_applied_indexes_prove_nothing() -> None:
    assert judge(three(revision=41, applied_index=91)).verdict is Verdict.VALID


def test_hashes_at_different_compact_revisions_prove_nothing() -> None:
    assert judge(three(hash=8, compact_revision=11)).verdict is Verdict.VALID


def test_differences_before_the_members_settled_are_unknown() -> None:
    result = judge(three(revision=41), settled=False)
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason is not None
    assert "had not settled" in result.reason


def test_a_silent_member_is_unknown_but_does_not_hide_a_difference_of_the_others() -> None:
    silent = {"n4": MemberReading(error="DEADLINE_EXCEEDED")}
    assert judge(three() | silent).verdict is Verdict.UNKNOWN
    assert judge(three(hash=9) | silent).verdict is Verdict.INVALID


def test_a_run_without_final_state_is_unknown() -> None:
    assert AgreementChecker().check(Recording(History()), Budget()).verdict is Verdict.UNKNOWN


readings = st.builds(
    MemberReading,
    revision=st.integers(1, 3),
    applied_index=st.just(9),
    compact_revision=st.just(1),
    hash_revision=st.just(1),
    hash=st.integers(1, 2),
    keys=st.dictionaries(st.sampled_from("ab"), st.tuples(st.sampled_from("xy"), st.just(1), st.just(1), st.just(1))),
)


@given(st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), readings, min_size=1))
def test_invalid_exactly_when_any_two_members_differ(members: dict[str, MemberReading]) -> None:
    differ = any(one != other for one in members.values() for other in members.values())
    assert (judge(members).verdict is Verdict.INVALID) == differ
