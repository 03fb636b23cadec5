"""The ready-made models: what each allows, refuses and says."""

from __future__ import annotations

from typing import Any

import pytest

from splitvote.checkers.linearizability import (
    FAILED,
    MODELS,
    UNKNOWN_OUTPUT,
    CheckResult,
    Model,
    NondeterministicModel,
    Operation,
    check_operations,
    model_named,
    models,
)
from splitvote.checkers.linearizability.models.etcd import (
    COMPACTED,
    FUTURE,
    Answer,
    Compact,
    Compare,
    Delete,
    KeyValue,
    Put,
    Range,
    Store,
    Txn,
)
from splitvote.harness.errors import ConfigError


def run(model: Model | NondeterministicModel, *steps: tuple[Any, Any]) -> bool:
    """Whether one client, doing one thing after another, may get these answers."""
    history = [Operation(0, asked, 2 * at, answer, 2 * at + 1) for at, (asked, answer) in enumerate(steps)]
    return check_operations(model, history) is CheckResult.OK


READ = ("read", None)


def test_register() -> None:
    assert run(models.register(0), (READ, 0), (("write", 1), None), (READ, 1))
    assert not run(models.register(), (READ, 0))


def test_cas_register() -> None:
    model = models.cas_register()
    write, swap = ("write", 1), ("cas", (1, 2))
    assert run(model, (write, None), (swap, None), (READ, 2))
    assert run(model, (write, None), (("cas", (5, 2)), FAILED), (READ, 1))
    assert not run(model, (write, None), (swap, FAILED))
    assert not run(model, (swap, None))


def test_multi_register() -> None:
    model = models.multi_register({"x": 0})
    write = ("txn", (("write", "x", 1), ("write", "y", 2)))
    both = ("txn", (("read", "x", None), ("read", "y", None)))
    assert run(model, (both, (("read", "x", 0), ("read", "y", None))), (write, write[1]))
    assert run(model, (write, write[1]), (both, (("r", "x", 1), ("r", "y", 2))))
    assert not run(model, (write, write[1]), (both, (("read", "x", 1), ("read", "y", None))))
    own = ("txn", (("w", "x", 5), ("r", "x", None)))
    assert run(model, (own, (("w", "x", 5), ("r", "x", 5))))


def test_versioned_register() -> None:
    model = models.versioned_register()
    assert run(model, (("write", "a"), 1), (READ, (1, "a")), (("cas", ("a", "b")), (2, "b")), (READ, (2, "b")))
    assert run(model, (("write", "a"), None), (("cas", ("z", "b")), FAILED), (("write", "c"), 2))
    assert not run(model, (("write", "a"), 2))
    assert not run(model, (("write", "a"), None), (READ, (2, "a")))


def test_mutex() -> None:
    model = models.mutex()
    a, b = ("acquire", "a"), ("acquire", "b")
    assert run(model, (a, None), (b, FAILED), (("release", "a"), None), (b, None))
    assert not run(model, (a, None), (b, None))
    assert not run(model, (a, None), (("release", "b"), None))
    assert run(model, (a, None), (("release", "b"), FAILED))
    assert not run(model, (a, FAILED))
    assert run(model, (("acquire", None), None), (("release", None), None), (("acquire", None), None))


def test_fenced_mutex() -> None:
    model = models.fenced_mutex()
    acquire, release = ("acquire", "a"), ("release", "a")
    assert run(model, (acquire, 3), (release, None), (acquire, 7))
    assert not run(model, (acquire, 3), (release, None), (acquire, 3))
    assert run(model, (acquire, None), (release, None), (acquire, 2))
    assert not run(model, (acquire, 4), (release, None), (acquire, None), (release, None), (acquire, 5))


def test_fifo_queue() -> None:
    model = models.fifo_queue()
    one, two, take = ("enqueue", 1), ("enqueue", 2), ("dequeue", None)
    assert run(model, (one, None), (two, None), (take, 1), (take, 2), (take, None))
    assert not run(model, (one, None), (two, None), (take, 2))
    assert not run(model, (one, None), (take, None))


def test_unordered_queue() -> None:
    model = models.unordered_queue()
    one, two, take = ("enqueue", 1), ("enqueue", 2), ("dequeue", None)
    assert run(model, (one, None), (two, None), (take, 2), (take, 1), (take, None))
    assert not run(model, (one, None), (take, 1), (take, 1))


def test_a_crashed_dequeue_may_have_taken_any_element() -> None:
    history = [
        Operation(0, ("enqueue", 1), 0, None, 1),
        Operation(0, ("enqueue", 2), 2, None, 3),
        Operation(1, ("dequeue", None), 4, UNKNOWN_OUTPUT, None),
        Operation(0, ("enqueue", 3), 5, None, 6),
        Operation(0, ("dequeue", None), 7, 3, 8),
        Operation(0, ("dequeue", None), 9, 1, 10),
        Operation(0, ("dequeue", None), 11, None, 12),
    ]
    assert check_operations(models.unordered_queue(), history) is CheckResult.OK
    assert check_operations(models.fifo_queue(), history) is CheckResult.ILLEGAL


def test_set() -> None:
    model = models.grow_set()
    assert run(model, (("add", 1), None), (("add", 2), None), (READ, (2, 1)), (("remove", 1), None), (READ, (2,)))
    assert not run(model, (("add", 1), None), (READ, ()))
    assert not run(model, (("add", 1), None), (READ, (1, 1)))


def test_counter() -> None:
    model = models.counter()
    assert run(model, (("add", 2), None), (("add", -1), 1), (READ, 1))
    assert not run(model, (("add", 2), 3))


def test_kv() -> None:
    model = models.kv()
    assert run(model, (("get", "k", None), ""), (("append", "k", "x"), None), (("get", "k", None), "x"))
    assert run(model, (("put", "k", "a"), None), (("append", "k", "b"), None), (("cas", "k", ("ab", "c")), None))
    assert run(model, (("put", "k", "a"), None), (("delete", "k", None), None), (("get", "k", None), ""))
    assert run(model, (("put", "k", "a"), None), (("cas", "k", ("x", "y")), FAILED), (("get", None), ""))
    assert not run(model, (("append", "k", "x"), None), (("get", "k", None), ""))


def test_kv_keys_are_judged_apart() -> None:
    history = [Operation(0, ("put", key, "v"), 0, None, 1) for key in "ab"]
    model = models.kv()
    assert model.partition is not None
    assert [len(part) for part in model.partition(history)] == [1, 1]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_refuses_what_it_does_not_know(name: str) -> None:
    """Loudly: a misspelt operation must not become a verdict."""
    asked: Any = ("txn", (("frobnicate", "x", 1),)) if name == "multi-register" else ("frobnicate", 1)
    history = [Operation(0, asked, 0, 1 if name != "multi-register" else asked[1], 1)]
    with pytest.raises(ValueError, match="knows no operation 'frobnicate'"):
        check_operations(model_named(name), history)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_describes_its_first_state(name: str) -> None:
    model = model_named(name)
    assert model.describe_state(model.init())


@pytest.mark.parametrize(
    ("name", "asked", "answer", "words"),
    [
        ("cas-register", READ, None, "read that it was absent"),
        ("cas-register", READ, 3, "read 3"),
        ("cas-register", ("cas", (1, 2)), FAILED, "compared with 1 to set 2, and was told it was not 1"),
        ("cas-register", ("write", 1), UNKNOWN_OUTPUT, "wrote 1 (no answer)"),
        ("versioned-register", READ, (2, "a"), "read 'a' at version 2"),
        ("versioned-register", ("write", "a"), 3, "wrote 'a' as version 3"),
        ("multi-register", ("txn", (("r", "x", None),)), (("r", "x", 1),), "read x=1"),
        ("mutex", ("acquire", "a"), FAILED, "found the lock held as 'a'"),
        ("mutex", ("release", None), FAILED, "was told it did not hold the lock"),
        ("fenced-mutex", ("acquire", "a"), 3, "acquired the lock with token 3 as 'a'"),
        ("fifo-queue", ("dequeue", None), None, "found the queue empty"),
        ("fifo-queue", ("dequeue", None), UNKNOWN_OUTPUT, "dequeued (no answer)"),
        ("unordered-queue", ("enqueue", 1), None, "enqueued 1"),
        ("set", READ, (1, 2), "read [1, 2]"),
        ("set", ("remove", 1), None, "removed 1"),
        ("counter", ("add", 2), 5, "added 2 and was told 5"),
        ("kv", ("get", "k", None), "v", "got 'k' 'v'"),
        ("kv", ("append", "v"), None, "appended 'v'"),
        ("kv", ("cas", "k", ("a", "b")), FAILED, "was told 'k' was not 'a'"),
    ],
)
def test_operations_are_described_in_words(name: str, asked: Any, answer: Any, words: str) -> None:
    assert model_named(name).describe_operation(asked, answer) == words


def test_a_misspelt_model_is_told_its_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cas-register'"):
        model_named("cas-registr")


# ---- etcd ----------------------------------------------------------------------


def at(revision: int | None, result: Any = None) -> Answer:
    return Answer(revision, result)


A1 = KeyValue("a", "x", 2, 2, 1)


def test_etcd_counts_revisions_and_versions() -> None:
    model = models.etcd()
    again = KeyValue("a", "y", 2, 3, 2)
    reborn = KeyValue("a", "z", 5, 5, 1)
    assert run(
        model,
        (Put("a", "x"), at(2)),
        (Range("a"), at(2, (A1,))),
        (Put("a", "y"), at(3)),
        (Range("a"), at(3, (again,))),
        (Delete("a"), at(4, 1)),
        (Delete("a"), at(4, 0)),
        (Put("a", "z"), at(5)),
        (Range("a"), at(None, (reborn,))),
    )
    assert not run(model, (Put("a", "x"), at(3)))
    assert not run(model, (Put("a", "x"), at(2)), (Range("a"), at(2, (A1._replace(version=2),))))


def test_etcd_ranges_over_keys_and_past_revisions() -> None:
    model = models.etcd()
    b = KeyValue("b", "x", 3, 3, 1)
    puts = [(Put("a", "x"), at(2)), (Put("b", "x"), at(3))]
    assert run(model, *puts, (Range("a", "c"), at(3, (A1, b))), (Range("a", "c", 2), at(3, (A1,))))
    assert run(model, *puts, (Range("a", "\0"), at(3, (A1, b))))
    assert run(model, *puts, (Range("a", "c", 4), at(3, FUTURE)))
    assert run(
        model, *puts, (Compact(3), at(3)), (Range("a", None, 2), at(3, COMPACTED)), (Compact(2), at(3, COMPACTED))
    )
    assert run(model, *puts, (Compact(9), at(3, FUTURE)), (Range("a", None, 3), at(3, (A1,))))


def test_etcd_transactions_write_at_one_revision() -> None:
    model = models.etcd()
    guard = Compare("a", "mod", "=", 0)
    create = Txn((guard,), (Put("a", "x"), Put("b", "x"), Range("a", "c")), (Range("a"),))
    b = KeyValue("b", "x", 2, 2, 1)
    done = (create, at(2, (True, (None, None, (A1, b)))))
    assert run(model, done, (create, at(2, (False, ((A1,),)))))
    assert not run(model, done, (create, at(3, (False, ((A1,),)))))
    for compare, holds in [
        (Compare("a", "value", "=", "x"), True),
        (Compare("c", "value", "!=", "x"), False),
        (Compare("a", "version", ">", 1), False),
        (Compare("a", "create", "<", 3), True),
    ]:
        assert run(model, done, (Txn((compare,)), at(2, (holds, ()))))


def test_etcd_serializable_ranges_may_see_the_past_but_no_invention() -> None:
    model = models.etcd()
    put = (Put("a", "x"), at(2))
    stale = Range("a", serializable=True)
    assert run(model, put, (stale, at(1, ())), (stale, at(2, (A1,))))
    assert not run(model, put, (stale, at(2, ())))
    assert not run(model, put, (stale, at(3, (A1,))))
    assert not run(model, put, (Range("a"), at(1, ())))


def test_etcd_places_a_lost_put_where_others_saw_it() -> None:
    """By a key's mod revision in someone's answer, or by a watch event."""
    lost = Operation(1, Put("a", "x"), 0, UNKNOWN_OUTPUT, None)
    later = Operation(0, Put("b", "y"), 1, at(3), 2)
    seen = Operation(0, Range("a"), 3, at(3, (A1,)), 4)
    model = models.etcd()
    assert model.places is not None
    assert model.places([lost, later, seen]) == [(2, 0), (3, 0), (3, 1)]
    assert check_operations(model, [lost, later, seen]) is CheckResult.OK
    watched = models.etcd(seen={("a", "x"): 2})
    assert watched.places is not None
    assert watched.places([lost, later]) == [(2, 0), (3, 0)]


def test_etcd_gives_a_revision_that_an_answered_put_claims_to_no_lost_one_of_the_same_value() -> None:
    lost = Operation(1, Put("a", "x"), 0, UNKNOWN_OUTPUT, None)
    again = Operation(2, Put("a", "x"), 1, Answer(2, None), 2)
    seen = Operation(3, Range("a"), 3, Answer(2, (KeyValue("a", "x", 2, 2, 1),)), 4)
    model = models.etcd()
    assert model.places is not None
    assert model.places([lost, again, seen]) == [None, (2, 0), (2, 1)]
    assert check_operations(model, [lost, again, seen]) is CheckResult.OK


def test_etcd_explains_a_gap_by_a_lost_write_or_not_at_all() -> None:
    later = Operation(0, Put("b", "y"), 1, at(3), 2)
    assert check_operations(models.etcd(), [later]) is CheckResult.ILLEGAL
    lost = Operation(1, Delete("a"), 0, UNKNOWN_OUTPUT, None)
    assert check_operations(models.etcd(), [lost, later]) is CheckResult.ILLEGAL
    assert check_operations(models.etcd(), [lost._replace(input=Put("a", 1)), later]) is CheckResult.OK


def test_stores_with_other_pasts_are_other_stores() -> None:
    first = Store(1, 0, {}, None)
    by_a = Store(2, 0, {"a": A1}, first)
    assert by_a == Store(2, 0, {"a": A1}, Store(1, 0, {}, None))
    assert by_a != Store(2, 0, {"a": A1}, Store(1, 1, {}, None))
    assert by_a != "a store"
