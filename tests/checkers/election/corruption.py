"""Damage of one field of one record: of an answer, an observed event, or a change in the store's history."""

from __future__ import annotations

import random
from typing import Any

from msgspec.structs import replace

from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Op

Told = dict[int, tuple[StoreEvent, ...]]


def corrupted(records: list[Op], told: Told, dice: random.Random) -> tuple[list[Op], Told]:
    """Copies with one field changed; may come out as it was where there was nothing to damage."""
    records, told = list(records), dict(told)
    if dice.random() < 0.65:
        answers = [n for n, op in enumerate(records) if op.type != "invoke" and _fields(op)]
        if answers:
            place = dice.choice(answers)
            records[place] = _damaged(records[place], dice)
    else:
        places = [revision for revision in told if any(e.key.startswith("election/") for e in told[revision])]
        if places:
            _damage_store(told, dice.choice(places), dice)
    return records, told


def _fields(op: Op) -> list[str]:
    found = []
    if op.revision is not None:
        found.append("revision")
    if isinstance(op.value, list):
        found.append("value")
    if op.f == "campaign" and op.type == "ok":
        found += ["create_revision", "candidate_key"]
    if op.f in ("proclaim", "write"):
        found.append("type")
    if op.f == "resign" and op.extra is not None and "deleted" in op.extra:
        found.append("deleted")
    return found


def _damaged(op: Op, dice: random.Random) -> Op:
    kind = dice.choice(_fields(op))
    step = dice.choice((-3, -2, -1, 1, 2, 3))
    extra: dict[str, Any] = dict(op.extra or {})
    if kind == "revision":
        return replace(op, revision=max(1, (op.revision or 0) + step))
    if kind == "value":
        place = dice.randrange(4)
        value = list(op.value)
        value[place] = value[place] + step if place > 1 else f"{value[place]}0"
        return replace(op, value=value)
    if kind == "create_revision":
        return replace(op, extra=extra | {kind: extra[kind] + step})
    if kind == "candidate_key":
        return replace(op, extra=extra | {kind: f"{extra[kind]}0"})
    if kind == "deleted":
        return replace(op, extra=extra | {kind: not extra[kind]})
    if op.type == "ok":
        return replace(op, type="fail", error=dice.choice(("deposed: so it says", "not-connected: so it says")))
    return replace(op, type="ok", error=None)


def _damage_store(told: Told, revision: int, dice: random.Random) -> None:
    events = list(told[revision])
    place = dice.randrange(len(events))
    event = events[place]
    kind = dice.choice(("drop", "key", "value") if event.type == "put" else ("drop", "key"))
    if kind == "drop":
        del events[place]
    elif kind == "key":
        events[place] = replace(event, key=f"{event.key}0")
    else:
        others = [e.value for each in told.values() for e in each if e.type == "put" and e.key.startswith("election/")]
        events[place] = replace(event, value=dice.choice([*others, "none"]))
    told[revision] = tuple(events)
