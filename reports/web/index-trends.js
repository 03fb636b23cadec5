// A test's runs in time: nights, latency and recovery, how often the verdict turns, and where a bad stretch began.

const NIGHTS_SHOWN = 40;

// What a test's runs (the oldest first) say. A bad stretch begins with the first bad run after the last good one;
// what is open in between neither begins nor ends it.
function trendOf(runs) {
  const decided = runs.filter((run) => run.standing !== "open");
  const turns = decided.filter((run, at) => at > 0 && run.standing !== decided[at - 1].standing).length;
  const lastGoodAt = decided.findLastIndex((run) => run.standing === "good");
  const lastBad = decided.findLast((run) => run.standing === "bad");
  const isBad = decided.length > 0 && lastGoodAt < decided.length - 1;
  return {
    runs,
    last: runs.at(-1),
    decided: decided.length,
    turns,
    isBad,
    lastGood: decided[lastGoodAt],
    lastBad,
    firstBad: isBad ? decided[lastGoodAt + 1] : undefined,
    badNights: isBad ? decided.length - 1 - lastGoodAt : 0,
    goodSince: lastBad === undefined ? decided.length : decided.length - 1 - decided.indexOf(lastBad),
    flaky: sameButOther(decided),
  };
}

// Two runs of one test with the same seed, versions and options of which one was good and one bad: undecided by what we chose.
function sameButOther(decided) {
  const seen = new Map();
  for (const run of decided) {
    const settings = JSON.stringify([run.seed, run.versions, run.splitvote, run.asked, run.time_s, run.rate, run.concurrency, run.nodes, run.cluster, run.options]);
    const before = seen.get(settings);
    if (before !== undefined && before.standing !== run.standing) return [before, run];
    seen.set(settings, run);
  }
  return undefined;
}

function trendsOf(runs) {
  const byTest = Map.groupBy([...runs].reverse(), (run) => run.test);
  const trends = [...byTest.values()].map(trendOf);
  return trends.sort((a, b) => Number(b.isBad) - Number(a.isBad) || a.last.test.localeCompare(b.last.test));
}

// -- drawing

function showTrends(trends, table, chooseTest) {
  const heads = ["test", "last", "runs", "p99 of ok", "longest recovery", "flakiness", "bad nights"];
  const head = element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { textContent: name }))));
  table.replaceChildren(head, element("tbody", {}, ...trends.map((trend) => trendRow(trend, chooseTest))));
}

function trendRow(trend, chooseTest) {
  const { last, runs } = trend;
  const name = element("a", { href: "#runs", title: "Only this test's runs", onclick: () => chooseTest(last.test) }, bdi(last.test));
  const flips = trend.decided < 2 ? "–" : `${several(trend.turns, "flip")} in ${trend.decided}`;
  const row = element(
    "tr",
    {},
    element("td", { className: "name" }, name),
    element("td", { className: "snug-cell" }, element("a", { href: mainLink(last) }, word(last.kind)), element("div", { className: "note", textContent: last.when })),
    element("td", {}, nights(runs)),
    element("td", {}, sparkline(runs, (run) => run.latency_ms?.p99)),
    element("td", {}, sparkline(runs, (run) => run.recovery_ms?.max)),
    element("td", { className: "snug-cell", textContent: flips, title: "How often a bad run followed a good one or the other way, among the runs that were decided" }),
    element("td", { className: "story" }, ...badNights(trend)),
  );
  row.dataset.test = last.test;
  return row;
}

function nights(runs) {
  const shown = runs.slice(-NIGHTS_SHOWN);
  const counts = Object.keys(KINDS).map((kind) => [kind, shown.filter((run) => run.kind === kind).length]);
  const said = counts.filter(([, number]) => number > 0).map(([kind, number]) => `${number} ${KINDS[kind][1]}`);
  const cells = shown.map((run) => element("a", { className: run.kind, href: mainLink(run), tabIndex: -1, title: `${run.when}: ${KINDS[run.kind][1]}\n${visible(run.id)}` }));
  const strip = element("div", { className: "nights", role: "group", ariaLabel: `The last ${several(shown.length, "run")}: ${said.join(", ")}` }, ...cells);
  return strip;
}

function badNights(trend) {
  const links = [];
  const link = (textContent, href) => links.push(element("a", { textContent, href }));
  let said = "none decided";
  if (trend.isBad) {
    const since = trend.lastGood === undefined ? "bad ever since" : "bad since";
    said = `${since} ${trend.firstBad.when}, ${several(trend.badNights, "run")}${changesBetween(trend.lastGood, trend.firstBad)}`;
    link("first bad", mainLink(trend.firstBad));
    if (trend.lastGood !== undefined) link("compare with the last good", comparisonOf(trend.lastGood, trend.firstBad));
  } else if (trend.lastBad !== undefined) {
    said = `last bad ${trend.lastBad.when}, ${several(trend.goodSince, "good run")} since`;
    link("last bad", mainLink(trend.lastBad));
  } else if (trend.decided > 0) said = "none";
  if (trend.flaky !== undefined) link("same seed, other verdict", comparisonOf(...trend.flaky));
  return [element("div", { className: trend.isBad ? "" : "note", textContent: said }), element("div", { className: "links" }, ...links)];
}

// What else was new with the first bad run.
function changesBetween(before, after) {
  if (before === undefined) return "";
  const changes = [];
  const etcd = [before, after].map((run) => (run.versions ?? []).join(", "));
  if (etcd[0] !== etcd[1]) changes.push(`${visible(etcd[0])} → ${visible(etcd[1])}`);
  if (before.splitvote !== after.splitvote) changes.push(`splitvote ${visible(before.splitvote ?? "")} → ${visible(after.splitvote ?? "")}`);
  return changes.length > 0 ? `; ${changes.join(", ")}` : "";
}

const SPARK = { width: 110, height: 26 };

// The figure of the last runs from 0 to its largest; a run without it leaves a gap.
function sparkline(runs, figure) {
  const values = runs.slice(-NIGHTS_SHOWN).map((run) => [run, figure(run)]);
  const known = values.filter(([, value]) => Number.isFinite(value));
  if (known.length === 0) return element("span", { className: "note", textContent: "–" });
  const largest = Math.max(...known.map(([, value]) => value)) || 1;
  const x = (at) => (values.length === 1 ? SPARK.width / 2 : (at / (values.length - 1)) * SPARK.width);
  const y = (value) => SPARK.height - 2 - (value / largest) * (SPARK.height - 4);
  const drawing = svg("svg", { viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, "aria-hidden": "true" }, svg("line", { x1: 0, x2: SPARK.width, y1: SPARK.height - 0.5, y2: SPARK.height - 0.5 }));
  for (const stretch of stretches(values)) drawing.append(svg("polyline", { points: stretch.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }));
  values.forEach(([run, value], at) => {
    if (!Number.isFinite(value)) return;
    const dot = svg("circle", { cx: x(at).toFixed(1), cy: y(value).toFixed(1), r: at === values.length - 1 ? 2.6 : 1.8 }, svg("title", {}, `${run.when}: ${inMs(value)}`));
    if (run.standing === "bad") dot.setAttribute("class", "odd");
    drawing.append(dot);
  });
  const middle = known.map(([, value]) => value).sort((a, b) => a - b)[known.length >> 1];
  const [, last] = known.at(-1);
  const text = element("span", {}, inMs(last), element("div", { className: "note", textContent: `median ${inMs(middle)}` }));
  return element("div", { className: "spark", title: `from ${inMs(Math.min(...known.map(([, value]) => value)))} to ${inMs(largest)}` }, drawing, text);
}

// Runs of places that have a value.
function stretches(values) {
  const found = [[]];
  values.forEach(([, value], at) => {
    if (Number.isFinite(value)) found.at(-1).push([at, value]);
    else if (found.at(-1).length > 0) found.push([]);
  });
  return found.filter((stretch) => stretch.length > 1);
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The marks of the strips, in words.
function legend(kinds) {
  const marks = kinds.map((kind) => element("span", {}, element("i", { className: "nights" }, element("a", { className: kind })), KINDS[kind][1]));
  return element("div", { className: "legend" }, ...marks);
}
