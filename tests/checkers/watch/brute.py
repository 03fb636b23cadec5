"""An independent judge of tiny watch histories: not rule by rule, but by what a faithful watch can have told at all.

A faithful watch has told a beginning of the sequence of the store's events from
its start on, in answers between which no revision is split.  So what was told,
answer by answer, is compared with every such beginning.
"""

from __future__ import annotations

from typing import Any

from splitvote.harness.op import Op
from splitvote.harness.recording import Recording

Told = list[Any]


def is_faithful(recording: Recording) -> bool:
    """Whether every watch told what it promised to, and the store's history is what was written."""
    assert recording.archive is not None
    history = [
        [
            event.mod_revision,
            event.key.removeprefix("watch/"),
            event.value if event.type == "put" else None,
            event.create_revision,
            event.version,
            event.lease,
        ]
        for revision in sorted(recording.archive.told)
        for event in recording.archive.told[revision]
    ]
    records = list(recording.history)
    if not _is_written(records, history):
        return False
    created = [op for op in records if op.type == "event" and op.value[0] == "created"]
    if any(op.type == "event" and op.value[0] == "events" and not _is_known(op, records) for op in records):
        return False
    return all(_keeps_its_promises(op, records, history) for op in created) and _have_converged(records, history)


def _is_known(told: Op, records: list[Op]) -> bool:
    return any(
        op.type == "event" and op.of == told.of and op.value[:2] == ["created", told.value[1]]
        for op in records[: records.index(told)]
    )


def _invoke_of(index: int | None, records: list[Op]) -> Op:
    return next(op for op in records if op.index == index and op.type == "invoke")


def _owed(created: Op, records: list[Op], history: list[Told], first: int) -> list[Told]:
    """Every event that the watch is to tell if it began at ``first``, in the store's order."""
    watch = _invoke_of(created.of, records).value["watches"][created.value[1]]
    owed = []
    for event in history:
        key, end = watch.get("key"), watch.get("end")
        is_wanted_key = key is None or (event[1] == key if end is None else key <= event[1] < end)
        kind = "deletes" if event[2] is None else "puts"
        if event[0] >= first and is_wanted_key and watch.get("without") != kind:
            owed.append(event)
    return owed


def _life_of(created: Op, records: list[Op]) -> list[Op]:
    """What was told of this watch, up to its end or to another creation of it."""
    life = []
    number, is_broadcast_before = created.value[1], False
    for op in records:
        if op.type != "event" or op.of != created.of:
            continue
        is_after = op.time_ns > created.time_ns
        if op.value == ["progress", None]:
            is_broadcast_before |= not is_after
            if is_after and not is_broadcast_before:
                life.append(op)
        elif is_after and op.value[1] == number:
            if op.value[0] == "created":
                break
            life.append(op)
            if op.value[0] == "canceled":
                break
    return life


def _starts(created: Op, records: list[Op]) -> range:
    """Where a watch may have begun: from now, anywhere since its stream's last creation."""
    if created.value[2]:
        return range(created.value[2], created.value[2] + 1)
    earlier = [
        op
        for op in records
        if op.type == "event" and op.of == created.of and op.value[0] == "created" and op.time_ns < created.time_ns
    ]
    now = created.revision or 0
    return range(min(now, earlier[-1].revision or 0) + 1 if earlier else 1, now + 2)


def _keeps_its_promises(created: Op, records: list[Op], history: list[Told]) -> bool:
    return any(_is_right_from(first, created, records, history) for first in _starts(created, records))


def _is_right_from(first: int, created: Op, records: list[Op], history: list[Told]) -> bool:
    watch = _invoke_of(created.of, records).value["watches"][created.value[1]]
    owed = _owed(created, records, history, first)
    told: list[Told] = []
    is_open = is_cancelling = False
    for op in _life_of(created, records):
        kind = op.value[0]
        if kind == "events":
            answer = op.value[3]
            if _is_certainly_compacted(created, records):
                return False
            if told and answer and answer[0][0] == told[-1][0] and not is_open:
                return False
            if op.value[2] and not watch.get("fragment"):
                return False
            befores = op.value[4] if len(op.value) > 4 else [None] * len(answer)
            if not all(_is_before(b, e, op, watch, records, history) for e, b in zip(answer, befores, strict=True)):
                return False
            told += answer
            is_open = bool(op.value[2])
            if not _is_beginning(told, owed, is_open=is_open):
                return False
        elif kind == "progress" and not (is_cancelling and op.value[1] is None):
            up_to = [event for event in owed if event[0] <= (op.revision or 0)]
            if any(event not in told for event in up_to):
                return False
        elif kind == "cancelling":
            is_cancelling = True
        elif kind == "canceled" and not _may_end(op, first, told, records, is_open=is_open, asked=is_cancelling):
            return False
    return True


def _is_beginning(told: list[Told], owed: list[Told], *, is_open: bool) -> bool:
    """Whether these events, in this order up to that within a revision, are how the owed ones begin."""
    beginning = owed[: len(told)]
    if [event[0] for event in told] != [event[0] for event in beginning]:
        return False
    rest = owed[len(told) :]
    if is_open and rest and told and rest[0][0] == told[-1][0]:
        whole = [event for event in owed if event[0] == told[-1][0]]
        last = [event for event in told if event[0] == told[-1][0]]
        before = [event for event in told if event[0] != told[-1][0]]
        return all(event in whole for event in last) and _same(before, beginning[: len(before)]) and _differ(last)
    if rest and told and rest[0][0] == told[-1][0]:
        return False
    return _same(told, beginning)


def _differ(events: list[Told]) -> bool:
    return len({event[1] for event in events}) == len(events)


def _same(some: list[Told], others: list[Told]) -> bool:
    return sorted(map(repr, some)) == sorted(map(repr, others))


def _is_before(
    before: Told | None, event: Told, op: Op, watch: dict[str, Any], records: list[Op], history: list[Told]
) -> bool:
    if not watch.get("prev_kv"):
        return before is None
    earlier = [each for each in history if each[1] == event[1] and each[0] < event[0]]
    was = earlier[-1] if earlier and earlier[-1][2] is not None else None
    if before is None and any(revision >= event[0] for revision in _compactions(op, records)):
        return True
    return before == was


def _compactions(by: Op, records: list[Op]) -> list[int]:
    return [op.value[1] for op in records if op.f == "compact" and op.type == "invoke" and op.time_ns <= by.time_ns]


def _is_certainly_compacted(created: Op, records: list[Op]) -> bool:
    """Whether the member had a put of after a compaction beyond the watch's start, when it created it."""
    asked = created.value[2]
    for done in records:
        if done.f != "compact" or done.type != "ok":
            continue
        invoke = [op for op in records if op.f == "compact" and op.type == "invoke" and op.index < done.index][-1]
        later = [op for op in records if op.f == "put" and op.type == "invoke" and op.index > done.index]
        answers = [_completion(op, records) for op in later]
        is_there = any(a.type == "ok" and (a.revision or 0) <= (created.revision or 0) for a in answers)
        if 0 < asked < invoke.value[1] and is_there:
            return True
    return False


def _completion(invoke: Op, records: list[Op]) -> Op:
    return next(op for op in records if op.process == invoke.process and op.index > invoke.index)


def _may_end(op: Op, first: int, told: list[Told], records: list[Op], *, is_open: bool, asked: bool) -> bool:
    compacted = op.value[2]
    if not compacted:
        return asked
    needed = max(first, (told[-1][0] + (not is_open)) if told else 0)
    return compacted > needed and compacted in _compactions(op, records)


def _have_converged(records: list[Op], history: list[Told]) -> bool:
    for done in records:
        if done.f != "converge" or done.type != "ok":
            continue
        invoke = next(op for op in records if op.f == "converge" and op.type == "invoke")
        newest = done.value[0]
        for number in range(len(invoke.value["watches"])):
            born = [op for op in records if op.of == invoke.index and op.value[:2] == ["created", number]]
            if not born:
                return False
            told = [e for op in _life_of(born[-1], records) if op.value[0] == "events" for e in op.value[3]]
            owed = _owed(born[-1], records, history, _starts(born[-1], records)[-1])
            if any(event not in told for event in owed if event[0] <= newest):
                return False
    return True


def _is_written(records: list[Op], history: list[Told]) -> bool:
    """Whether the store has exactly what was written, where it was acknowledged."""
    writes = [
        (invoke.value[1:] if invoke.f == "txn" else [invoke.value], _completion(invoke, records))
        for invoke in records
        if invoke.type == "invoke" and invoke.f in ("put", "txn", "delete")
    ]
    return all(_is_there(parts, done, history) for parts, done in writes) and all(
        any(_may_have_made(event, parts, done, writes) for parts, done in writes) for event in history
    )


def _is_there(parts: list[Any], done: Op, history: list[Told]) -> bool:
    if done.type != "ok":
        return True
    events = [event for event in history if event[0] == done.revision]
    answers = done.value if isinstance(done.value, list) else [done.value]
    made = [
        [part[1], part[2] if part[0] == "put" else None]
        for part, count in zip(parts, answers, strict=True)
        if count != 0
    ]
    return all(any(event[1:3] == each for event in events) for each in made)


def _may_have_made(event: Told, parts: list[Any], done: Op, writes: list[tuple[list[Any], Op]]) -> bool:
    if not any((part[2:] or [None])[0] == event[2] and part[1] == event[1] for part in parts):
        return False
    if done.type == "ok":
        return done.revision == event[0]
    # A put names its writer; a delete may be anybody's, unless somebody is known to have written there.
    return event[2] is not None or not any(
        other.type == "ok" and other.revision == event[0] and other.value != 0 and other.value != [0] * len(parts)
        for parts, other in writes
    )
