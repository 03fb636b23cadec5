// Runs as the index knows them (the writing side is reports/index/entries.py): what their verdicts mean, names, links.

// Kinds of outcome, the gravest first: [name, mark, word, what it says of the test].
// Good and bad decide what is a bad night; what is open proves nothing either way.
const KINDS = {
  invalid: ["✕", "INVALID", "bad"],
  slo: ["!", "SLO MISSED", "bad"],
  failed: ["?", "HARNESS FAILED", "open"],
  unknown: ["?", "UNKNOWN", "open"],
  unjudged: ["–", "NOT JUDGED", "open"],
  expected: ["✕", "INVALID, expected", "good"],
  valid: ["✓", "VALID", "good"],
};

// An INVALID stands even where the harness failed later; any other verdict of such a run speaks of a part of it only.
function kindOf(entry) {
  if (entry.verdict === "INVALID") return entry.expected === "unsafe" ? "expected" : "invalid";
  if (entry.failure !== undefined) return "failed";
  if (entry.verdict === undefined) return "unjudged";
  return { VALID: "valid", SLO_MISSED: "slo" }[entry.verdict] ?? "unknown";
}

// A run: its entry with what is derived of it.
function runOf({ entry, files = [] }) {
  const kind = kindOf(entry);
  const started = entry.started_ms === undefined ? "" : new Date(entry.started_ms).toISOString();
  return {
    ...entry,
    id: `${entry.test}/${entry.run}`,
    kind,
    standing: KINDS[kind][2],
    when: started === "" ? visible(entry.run) : `${started.slice(0, 10)} ${started.slice(11, 16)}`,
    files,
    families: Object.keys(entry.faults ?? {}),
    path: `${encodeURIComponent(entry.test)}/${encodeURIComponent(entry.run)}`,
  };
}

async function loadRuns() {
  const data = await load("index");
  return { runs: data.runs.map(runOf), served: data.served };
}

function word(kind, text = KINDS[kind][1]) {
  return element("span", { className: `word ${kind}` }, `${KINDS[kind][0]} ${text}`);
}

function label(text, className = "") {
  return element("span", { className: `label ${className}`, textContent: text });
}

function bdi(text) {
  return element("bdi", { textContent: visible(text) });
}

// A map's value by a name that a run chose: "constructor" is a name like another.
function own(map, name) {
  return map !== undefined && Object.hasOwn(map, name) ? map[name] : undefined;
}

// The page to open for a run: its report, else whatever of it is there.
function mainLink(run) {
  const file = run.files.includes("report.html") ? "report.html" : run.files.includes("results.json") ? "results.json" : "config.json";
  return `${run.path}/${file}`;
}

// Links to a run's files that are there; a zip only from a server, which makes it.
function fileLinks(run, served) {
  const links = [];
  if (run.files.includes("report.html")) links.push(["report", `${run.path}/report.html`]);
  if (run.files.includes("results.json")) links.push(["results", `${run.path}/results.json`]);
  if (run.files.includes("logs")) links.push(["logs", `${run.path}/logs/`]);
  if (served) links.push(["zip", `zip/${run.path}.zip`]);
  return links.map(([textContent, href]) => element("a", { href, textContent, ariaLabel: `${textContent} of ${run.id}` }));
}

function comparisonOf(first, second) {
  const [a, b] = (first.started_ms ?? 0) <= (second.started_ms ?? 0) ? [first, second] : [second, first];
  return `compare.html?a=${encodeURIComponent(a.id)}&b=${encodeURIComponent(b.id)}`;
}

// The number of a known issue, as its text begins: "13766: ..." is 13766.
function issueNumbers(issues = []) {
  return [...new Set(issues.flatMap((issue) => issue.match(/\b\d{4,6}(?=:)/g) ?? [issue]))];
}

// A label for each known issue, with the issues in full behind it.
function issueLabels(run) {
  const title = (run.issues ?? []).map(visible).join("\n");
  return issueNumbers(run.issues).map((number) => element("span", { className: "label issue", textContent: `known: ${visible(number).slice(0, 40)}`, title }));
}

// How many faults of each family; where the results do not have that, how many were proven.
function faultsInWords(run) {
  return Object.entries(run.faults ?? {}).map(([family, [all, proven]]) => {
    const some = all >= 0 && proven < all ? ` (${proven} proven)` : "";
    return `${visible(family)} × ${all < 0 ? proven : all}${some}`;
  });
}

function inLength(seconds) {
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function amount(number) {
  return Math.round(number).toLocaleString("en");
}

function several(number, noun, plural = `${noun}s`) {
  return `${amount(number)} ${number === 1 ? noun : plural}`;
}
