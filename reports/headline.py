"""The verdict in words: what broke, when and under which fault; or what was proven; or what was missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from splitvote.harness.op import Operation
from splitvote.harness.result import Result, Verdict
from splitvote.harness.spans import FaultSpan
from splitvote.reports.anomalies import Card
from splitvote.reports.stored import StoredRun
from splitvote.reports.wording import abridged, count, duration, listed, plain, seconds, sentence, times

_ADVICE: Final = {
    "vacuity": "Run it longer (--time), or at a rate the cluster can serve (--rate), until what is missing happens.",
    "liveness": "Let the run end by itself, so that the recovery is observed.",
    "agreement": "Let the run end by itself, and look at the members that did not answer in the logs below.",
    "errors": "Add a row for these errors to the system's error table, or report them.",
    "linearizability": "Give the checker more time (--timeout-s), or use more keys so that each has fewer operations.",
}
_MOST_NAMED: Final = 6
_GENERAL_ADVICE: Final = "Run it again with the command below; its reason stands beside the checker below."


@dataclass(frozen=True, slots=True)
class Headline:
    """A verdict for people: ``tone`` is valid, invalid, unknown, slo or unjudged."""

    tone: str
    word: str
    title: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def headline(
    run: StoredRun, operations: Sequence[Operation], spans: Sequence[FaultSpan], cards: Sequence[Card]
) -> Headline:
    """Say what the run's results mean."""
    results = run.results
    if results is None:
        said = f"Recorded were {_amounts(run, operations, spans)}."
        advice = f"Judge what was recorded with: splitvote check {run.directory}"
        return Headline("unjudged", "NOT JUDGED", "No checker has seen this run", (said, advice))
    sentences: tuple[str, ...]
    match results.verdict:
        case Verdict.INVALID:
            title, sentences = _invalid(run, results.results, cards, spans)
            return Headline("invalid", "INVALID", title, sentences, _warnings(run))
        case Verdict.UNKNOWN:
            title, sentences = _unknown(run, results.results, operations, spans)
            return Headline("unknown", "UNKNOWN", title, sentences, _warnings(run))
        case Verdict.SLO_MISSED:
            missed = [result.reason for result in results.results if result.verdict is Verdict.SLO_MISSED]
            sentences = (*(plain(reason) for reason in missed if reason), _proven(run, operations, spans))
            return Headline(
                "slo", "SLO MISSED", "Consistent, but a service level was missed", sentences, _warnings(run)
            )
        case Verdict.VALID:
            passed = [result.checker for result in results.results if result.verdict is Verdict.VALID]
            sentences = (_proven(run, operations, spans), f"{listed(passed)} found nothing wrong." if passed else "")
            return Headline("valid", "VALID", "No violation found", tuple(filter(None, sentences)), _warnings(run))


def _warnings(run: StoredRun) -> tuple[str, ...]:
    results = run.results
    if results is None:
        return ()
    found = []
    if results.failure is not None:
        found.append(f"The harness or its surroundings failed, and the run ended early: {plain(results.failure)}")
    if results.expected == "unsafe":
        shown = "" if results.verdict is Verdict.INVALID else " This run did not show it."
        found.append(f"Expected: unsafe. The workload shows what the system does not promise.{shown}")
    if results.interrupted:
        found.append("The run was interrupted; what was recorded until then is judged.")
    return tuple(found)


def _invalid(
    run: StoredRun, results: Sequence[Result], cards: Sequence[Card], spans: Sequence[FaultSpan]
) -> tuple[str, tuple[str, ...]]:
    if not cards:
        reasons = [result for result in results if result.verdict is Verdict.INVALID]
        title = f"{reasons[0].checker} found a violation" if reasons else "A violation was found"
        return title, tuple(plain(result.reason or "") for result in reasons)
    worst = cards[0]
    sentences = [sentence(plain(abridged(worst.story), 700)), *which(worst), when_and_under(worst, spans)]
    if worst.known_issue is not None:
        sentences.append(f"It matches a known issue of etcd, {sentence(plain(worst.known_issue, 300))}")
    by_title = Counter(card.title for card in cards[1:])
    if by_title:
        others = listed([title if often == 1 else f"{title} ({often})" for title, often in by_title.items()])
        sentences.append(f"Also found: {others}.")
    return worst.title, tuple(sentences)


def which(card: Card) -> list[str]:
    """The operation that fits nowhere, else the few that show the anomaly, each with the member that it asked."""
    if card.related or not card.operations:
        return []
    culprits = [operation for operation in card.operations if operation.invoke.index in card.culprits]
    if culprits:
        return [f"What fits nowhere is {listed(list(map(_named, culprits)))}."]
    if len(card.operations) + card.operations_left_out > _MOST_NAMED:
        return []
    return [f"It is shown by {listed(list(map(_named, card.operations)))}."]


def _named(operation: Operation) -> str:
    node = operation.completion.node if operation.completion is not None else None
    node = node or operation.invoke.node
    return f"op {operation.invoke.index}{f' at {plain(node, 40)}' if node else ''}"


def when_and_under(card: Card, spans: Sequence[FaultSpan]) -> str:
    """When an anomaly happened, and which fault was active then."""
    if card.start_ns is None or card.end_ns is None:
        healed = f"after {count(len(spans), 'fault')} had been healed" if spans else "no fault was injected"
        return f"Found at the end of the run, {healed}."
    lead = "The values in question were written" if card.related else "Happened"
    when = f"{lead} between {seconds(card.start_ns)} and {seconds(card.end_ns)}"
    if card.faults:
        named = listed([f"{span.title} (fault {span.id})" for span in card.faults[:3]])
        more = f" and {len(card.faults) - 3} more" if len(card.faults) > 3 else ""
        return f"{when}, under {named}{more}."
    before = card.fault_before
    if before is not None and before.end_ns is not None:
        return f"{when}, {duration(card.start_ns - before.end_ns)} after {before.title} (fault {before.id}) ended."
    return f"{when}, before any fault." if spans else f"{when}, with no fault injected."


def _unknown(
    run: StoredRun, results: Sequence[Result], operations: Sequence[Operation], spans: Sequence[FaultSpan]
) -> tuple[str, tuple[str, ...]]:
    undecided = [result for result in results if result.verdict is Verdict.UNKNOWN]
    vacuous = any(result.checker == "vacuity" for result in undecided)
    title = "Too little happened to prove anything" if vacuous else "Nobody can tell"
    sentences = [sentence(_missing(result)) for result in undecided]
    advice = dict.fromkeys(_ADVICE.get(result.checker, _GENERAL_ADVICE) for result in undecided)
    return title, (*sentences, *advice)


def _missing(result: Result) -> str:
    """What kept a checker from deciding."""
    reason = plain(result.reason or "no reason given")
    vacuous = reason.removeprefix("vacuous: ")
    return f"Missing: {vacuous}" if vacuous != reason else f"{result.checker}: {reason}"


def _proven(run: StoredRun, operations: Sequence[Operation], spans: Sequence[FaultSpan]) -> str:
    return f"Judged were {_amounts(run, operations, spans)}."


def _amounts(run: StoredRun, operations: Sequence[Operation], spans: Sequence[FaultSpan]) -> str:
    """How many operations, of what outcome, over what time, under which proven faults."""
    outcomes = Counter(operation.type for operation in operations)
    parts = [f"{outcomes[outcome]:,} {outcome}" for outcome in ("ok", "fail", "info") if outcomes[outcome]]
    said = count(len(operations), "operation") + (f" ({', '.join(parts)})" if parts else "")
    said += f" over {duration(run.end_ns)}"
    if not spans:
        return f"{said}, with no fault"
    kinds = Counter(span.family for span in spans if span.proven)
    unproven = len(spans) - kinds.total()
    said += f", under {count(kinds.total(), 'proven fault')}"
    if kinds:
        said += f" ({times(kinds)})"
    return said + (f" and {unproven} whose effect was not proven" if unproven else "")
