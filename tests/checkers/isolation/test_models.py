"""The lattice of consistency models."""

from __future__ import annotations

import pytest

from splitvote.checkers.isolation.models import (
    ALIASES,
    ANOMALIES,
    CYCLES,
    MODELS,
    boundary,
    cycles_of,
    forbidden_by,
    implied_by,
    model_named,
    ruled_out,
    strongest_left,
    variants_of,
)
from splitvote.harness.errors import ConfigError


def test_names() -> None:
    """Aliases lead to models, models to themselves, anything else is refused."""
    assert model_named("strict-serializable") == model_named("PL-SS") == "strong-serializable"
    assert all(model_named(name) in MODELS for name in [*ALIASES, *MODELS])
    with pytest.raises(ConfigError, match="did you mean 'snapshot-isolation'"):
        model_named("snapshot-isolaton")


@pytest.mark.parametrize(
    ("anomaly", "weakest"),
    [
        ("G0", ["read-uncommitted"]),
        ("G1a", ["read-committed"]),
        ("G1b", ["read-committed"]),
        ("G1c", ["read-committed"]),
        ("G-single", ["consistent-view", "repeatable-read"]),
        ("G-nonadjacent", ["repeatable-read", "snapshot-isolation"]),
        ("G2-item", ["repeatable-read"]),
        ("G0-process", ["strong-session-read-uncommitted"]),
        ("G1c-process", ["strong-session-read-committed"]),
        ("G-single-process", ["strong-session-snapshot-isolation"]),
        ("G-nonadjacent-process", ["strong-session-snapshot-isolation"]),
        ("G2-item-process", ["strong-session-serializable"]),
        ("G0-realtime", ["strong-read-uncommitted"]),
        ("G1c-realtime", ["strong-read-committed"]),
        ("G-single-realtime", ["strong-snapshot-isolation"]),
        ("G-nonadjacent-realtime", ["strong-snapshot-isolation"]),
        ("G2-item-realtime", ["strong-serializable"]),
        ("internal", ["read-atomic"]),
        ("future-read", ["read-committed"]),
        ("incompatible-order", ["read-committed"]),
        ("dirty-update", ["read-committed"]),
        ("lost-update", ["cursor-stability", "update-atomic"]),
        ("duplicate-elements", ["read-uncommitted"]),
        ("cyclic-versions", ["read-uncommitted"]),
        ("unwritten-read", ["read-uncommitted"]),
    ],
)
def test_the_weakest_model_each_anomaly_rules_out(anomaly: str, weakest: list[str]) -> None:
    """As Elle's tables have it; and whatever is ruled out forbids the anomaly, nothing else does."""
    found, others = boundary([anomaly])
    assert found == weakest
    assert set(found) | set(others) == {model for model in MODELS if anomaly in forbidden_by(model)}


def test_ruling_out_a_model_rules_out_all_stronger_ones() -> None:
    """Every anomaly's models are closed upward, and strict serializability forbids every anomaly."""
    for anomaly in ANOMALIES:
        out = ruled_out([anomaly])
        for model in out:
            stronger = [other for other in MODELS if forbidden_by(other) >= forbidden_by(model) and other != model]
            assert all(other in out for other in stronger if forbidden_by(other) > forbidden_by(model))
        assert anomaly in forbidden_by("strict-serializable")


def test_a_case_of_another_rules_out_at_least_as_much() -> None:
    """What an anomaly implies is never graver than itself."""
    for anomaly in ANOMALIES:
        for implied in implied_by(anomaly):
            assert ruled_out([implied]) <= ruled_out([anomaly])


def test_only_what_a_model_needs_is_looked_into() -> None:
    """Real time for strong models, process order for sessions, neither for the rest."""
    assert variants_of("serializable") == ("",)
    assert variants_of("strong-session-snapshot-isolation") == ("", "-process")
    assert variants_of("strict-serializable") == ("", "-process", "-realtime")
    assert cycles_of(("",)) == ["G0", "G1c", "G-single", "G-nonadjacent", "G2-item"]


def test_the_strongest_left_were_looked_into() -> None:
    """A model stands only where every cycle it forbids was looked for; nothing weaker than one that stands is told."""
    assert strongest_left([], CYCLES) == ["strong-serializable"]
    assert strongest_left([], cycles_of(("",))) == ["serializable"]
    assert strongest_left([], cycles_of(("", "-process"))) == ["strong-session-serializable"]
    assert strongest_left(["G2-item"], CYCLES) == ["strong-snapshot-isolation", "update-serializable"]
    assert strongest_left(["G0"], CYCLES) == []
