// Two runs side by side: compare.html?a=TEST/RUN&b=TEST/RUN; the older one is meant to be a.

async function start() {
  const { runs, served } = await loadRuns();
  const byId = new Map(runs.map((run) => [run.id, run]));
  const asked = new URLSearchParams(location.search);
  const ids = [asked.get("a") ?? "", asked.get("b") ?? ""];
  const sides = ids.map((id) => byId.get(id));
  const [first, second] = sides;
  document.getElementById("sides").replaceChildren(...sides.map((run, at) => sidePanel(run, at, ids, runs, served)));
  document.getElementById("swap").addEventListener("click", () => go(ids[1], ids[0]));
  if (first !== undefined && second !== undefined) {
    const box = document.getElementById("differences");
    const show = () => showComparison(first, second, box.checked);
    box.addEventListener("change", show);
    show();
  }
  document.body.dataset.ready = String(Math.round(performance.now()));
}

function address(a, b) {
  return `compare.html?a=${encodeURIComponent(a)}&b=${encodeURIComponent(b)}`;
}

function go(a, b) {
  location.href = address(a, b);
}

// One run in short, with links to the test's run before and after.
function sidePanel(run, at, ids, runs, served) {
  const side = element("span", { className: "side", textContent: "AB"[at] });
  if (run === undefined) {
    const said = ids[at] === "" ? "No run was chosen." : `There is no run ${visible(ids[at])} in this store.`;
    return element("div", { className: "panel" }, element("h2", {}, side, said), element("p", {}, element("a", { href: "index.html", textContent: "Choose two in the index" })));
  }
  const ofTest = runs.filter((other) => other.test === run.test);
  const place = ofTest.indexOf(run);
  const steps = [["◂ the run before", ofTest[place + 1]], ["the run after ▸", ofTest[place - 1]]];
  const links = steps.flatMap(([textContent, other]) => {
    if (other === undefined) return [];
    const to = at === 0 ? address(other.id, ids[1]) : address(ids[0], other.id);
    return [element("a", { href: to, textContent })];
  });
  const [what] = (run.checkers ?? []).filter(({ verdict, reason }) => verdict === run.verdict && reason);
  const panel = element(
    "div",
    { className: "panel" },
    element("h2", {}, side, bdi(run.test), ` ${run.when}`),
    element("div", {}, word(run.kind), " ", ...(run.expected === "unsafe" ? [label("expected: unsafe", "expected")] : [])),
    ...(what === undefined ? [] : [element("p", {}, bdi(what.reason))]),
    ...(run.problem === undefined ? [] : [element("p", { className: "warning" }, bdi(run.problem))]),
    element("div", { className: "links" }, ...fileLinks(run, served), ...links),
  );
  panel.dataset.run = run.id;
  return panel;
}

function showComparison(a, b, onlyDifferences) {
  let differing = 0;
  const panels = [];
  for (const [title, lines] of sections(a, b)) {
    differing += lines.filter(differs).length;
    const shown = onlyDifferences ? lines.filter(differs) : lines;
    if (shown.length === 0) continue;
    panels.push(element("div", { className: "panel" }, element("h2", { textContent: title }), comparisonTable(title, shown)));
  }
  document.getElementById("amount").textContent = differing === 0 ? "nothing differs" : `${several(differing, "line")} ${differing === 1 ? "differs" : "differ"}`;
  document.getElementById("comparison").replaceChildren(...panels);
}

const NOTABLE_CHANGE = 1.5;

// Lines are {name, a, b} as texts, or with `figures: [a, b]`, their `text`, and whether `more` is worse or better.
// No two runs have the same figures: they differ where one has none, or by half and more; `exact` ones by anything.
function differs({ a, b, figures, exact = false }) {
  if (figures === undefined) return a !== b;
  return exact || figures.some((value) => !Number.isFinite(value)) ? figures[0] !== figures[1] : isNotable(figures);
}

function isNotable([a, b]) {
  return a !== b && (a === 0 || b === 0 || b / a >= NOTABLE_CHANGE || a / b >= NOTABLE_CHANGE);
}

function comparisonTable(title, lines) {
  const head = element("tr", {}, element("th", { ariaLabel: title }), element("th", { textContent: "A" }), element("th", { textContent: "B" }), element("th", { className: "n", ariaLabel: "change" }));
  const rowsOf = lines.map((line) => {
    const [a, b] = line.figures === undefined ? [line.a, line.b] : line.figures.map((value) => (value === undefined ? "–" : line.text(value)));
    const cells = [element("td", {}, bdi(line.name)), element("td", {}, ...cell(a)), element("td", {}, ...cell(b)), change(line)];
    return element("tr", { className: differs(line) ? "odd" : "" }, ...cells);
  });
  return element("table", { className: "both" }, element("thead", {}, head), element("tbody", {}, ...rowsOf));
}

function cell(text) {
  if (text !== undefined && Object.hasOwn(VERDICT_KINDS, text)) return [word(VERDICT_KINDS[text])];
  return text === undefined || text === "" ? ["–"] : [bdi(text)];
}

const VERDICT_KINDS = { VALID: "valid", INVALID: "invalid", UNKNOWN: "unknown", SLO_MISSED: "slo" };

// How much larger or smaller the second figure is.
function change(line) {
  const [a, b] = line.figures ?? [];
  if (!Number.isFinite(a) || !Number.isFinite(b) || a === b) return element("td", { className: "n" });
  if (a === 0) return element("td", { className: "n", textContent: "new" });
  const ratio = b / a;
  const judged = !isNotable(line.figures) || line.more === undefined ? "" : (ratio > 1) === (line.more === "worse") ? "worse" : "better";
  return element("td", { className: `n ${judged}`, textContent: `× ${ratio < 0.1 || ratio >= 10 ? ratio.toPrecision(2) : ratio.toFixed(2)}` });
}

function sections(a, b) {
  return [
    ["Verdicts", verdictLines(a, b)],
    ["Anomalies", anomalyLines(a, b)],
    ["What was run", settingLines(a, b)],
    ["Operations", operationLines(a, b)],
    ["Latency of ok operations", latencyLines(a, b)],
    ["Faults and recovery", faultLines(a, b)],
    ["Service levels", sloLines(a, b)],
    ["Errors", countLines(a.errors, b.errors)],
  ];
}

// Names of both, those of the first in their order.
function namesOf(a = {}, b = {}) {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])];
}

function byName(list = []) {
  return Object.fromEntries(list.map((item) => [item.name, item]));
}

function verdictLines(a, b) {
  const [first, second] = [byName(a.checkers), byName(b.checkers)];
  const lines = [{ name: "the run", a: a.verdict ?? "not judged", b: b.verdict ?? "not judged" }];
  for (const name of namesOf(first, second)) lines.push({ name, a: own(first, name)?.verdict, b: own(second, name)?.verdict });
  for (const name of namesOf(first, second)) {
    const [why, other] = [own(first, name)?.reason, own(second, name)?.reason];
    if (why !== undefined || other !== undefined) lines.push({ name: `${name}: why`, a: why, b: other });
  }
  if (a.failure !== undefined || b.failure !== undefined) lines.push({ name: "the harness failed", a: a.failure, b: b.failure });
  return lines;
}

function anomalyLines(a, b) {
  const [first, second] = [byName(a.anomalies), byName(b.anomalies)];
  const lines = namesOf(first, second).map((name) => ({ name: (own(first, name) ?? own(second, name)).title, figures: [own(first, name)?.count ?? 0, own(second, name)?.count ?? 0], text: amount, more: "worse", exact: true }));
  const issues = [a, b].map((run) => (run.issues ?? []).join("; "));
  if (issues.some(Boolean)) lines.push({ name: "known issues", a: issues[0], b: issues[1] });
  return lines;
}

function settingLines(a, b) {
  const facts = [
    ["workload", (run) => run.workload],
    ["cluster", (run) => [run.cluster, run.nodes > 0 ? several(run.nodes, "node") : ""].filter(Boolean).join(", ")],
    ["versions", (run) => run.versions?.join(", ")],
    ["known defects", (run) => run.defects?.join("; ")],
    ["faults asked for", (run) => run.asked?.join(", ")],
    ["seed", (run) => (run.seed === undefined ? "" : String(run.seed))],
    ["operations for", (run) => (run.time_s === undefined ? "" : `${run.time_s} s`)],
    ["rate asked for", (run) => (run.rate === undefined ? "" : `${run.rate} ops/s`)],
    ["client threads", (run) => (run.concurrency === undefined ? "" : String(run.concurrency))],
    ["splitvote", (run) => run.splitvote],
    ["length", (run) => (run.duration_s === undefined ? "" : inLength(run.duration_s))],
    ["the harness's worst lag", (run) => (run.lag_ms === undefined ? "" : inMs(run.lag_ms))],
  ];
  const lines = facts.map(([name, fact]) => ({ name, a: fact(a) ?? "", b: fact(b) ?? "" })).filter((line) => line.a !== "" || line.b !== "");
  for (const name of namesOf(a.options, b.options)) lines.push({ name, a: own(a.options, name) ?? "", b: own(b.options, name) ?? "" });
  if (a.command || b.command) lines.push({ name: "command", a: a.command, b: b.command });
  return lines;
}

function operationLines(a, b) {
  const line = (name, first, second) => ({ name, figures: [first, second], text: amount });
  const lines = ["invoked", "ok", "fail", "info"].map((outcome) => line(outcome, a.total?.[outcome], b.total?.[outcome]));
  for (const f of namesOf(a.by_f, b.by_f)) lines.push(line(`${f}, ok`, own(a.by_f, f)?.ok, own(b.by_f, f)?.ok));
  return lines.filter(({ figures }) => figures.some((value) => value !== undefined));
}

function latencyLines(a, b) {
  const of = (figures, suffix) => namesOf(a[figures], b[figures]).map((name) => ({ name: `${name}${suffix}`, figures: [own(a[figures], name), own(b[figures], name)], text: inMs, more: "worse" }));
  return [...of("latency_ms", ""), ...of("intent_ms", ", from the intended start")];
}

function faultLines(a, b) {
  const injected = (run, family) => (own(run.faults, family) === undefined ? undefined : Math.max(...run.faults[family]));
  const lines = namesOf(a.faults, b.faults).flatMap((family) => [
    { name: family, figures: [injected(a, family), injected(b, family)], text: amount },
    { name: `${family}, proven`, figures: [own(a.faults, family)?.[1], own(b.faults, family)?.[1]], text: amount, more: "better" },
  ]);
  for (const name of namesOf(a.recovery_ms, b.recovery_ms)) lines.push({ name: `time to recover, ${name}`, figures: [own(a.recovery_ms, name), own(b.recovery_ms, name)], text: inMs, more: "worse" });
  const windows = [a.unavailable?.windows, b.unavailable?.windows];
  const longest = [a.unavailable?.longest_ms, b.unavailable?.longest_ms];
  if (windows.some(Number.isFinite)) lines.push({ name: "windows without success", figures: windows, text: amount, more: "worse" });
  if (longest.some(Number.isFinite)) lines.push({ name: "the longest window", figures: longest, text: inMs, more: "worse" });
  return lines;
}

function sloLines(a, b) {
  const of = (run) => Object.fromEntries((run.slos ?? []).map(([text, met, measured]) => [text, `${met ? "met" : "missed"}: ${measured}`]));
  const [first, second] = [of(a), of(b)];
  return namesOf(first, second).map((name) => ({ name, a: own(first, name), b: own(second, name) }));
}

function countLines(a, b) {
  return namesOf(a, b).map((name) => ({ name, figures: [own(a, name), own(b, name)], text: amount }));
}

start().catch((problem) => {
  const said = `The runs cannot be shown: ${problem.message}. The page needs a browser of 2024 or later.`;
  document.getElementById("sides").replaceChildren(element("p", { className: "warning", textContent: said }));
  console.error(problem);
});
