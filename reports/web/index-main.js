// Start of the index: load the runs, then filter, draw and follow keys.

async function start() {
  const { runs, served } = await loadRuns();
  const chosen = document.getElementById("chosen");
  const table = new RunTable(served, (picked) => showChosen(chosen, picked, () => table.forget()));
  const refresh = () => {
    const found = filters.found();
    const shown = filters.ofKinds(found);
    showTrends(trendsOf(found), document.getElementById("trends"), (test) => filters.chooseTest(test));
    table.show(shown);
    document.getElementById("amount").textContent = shown.length === runs.length ? several(runs.length, "run") : `${amount(shown.length)} of ${several(runs.length, "run")}`;
  };
  const filters = new Filters(runs, refresh);
  refresh();
  document.querySelector("#tests .panel").append(legend(Object.keys(KINDS).filter((kind) => runs.some((run) => run.kind === kind))));
  sayNow(trendsOf(runs), runs.length);
  listenForIndexKeys(table, filters);
  document.body.dataset.ready = String(Math.round(performance.now()));
}

// What is bad now, in the banner: of all runs, whatever is filtered.
function sayNow(trends, amountOfRuns) {
  const bad = trends.filter((trend) => trend.isBad);
  const open = trends.filter((trend) => trend.last.standing === "open");
  const tone = trends.length === 0 ? "none" : bad.length > 0 ? "bad" : open.length > 0 ? "open" : "good";
  const titles = {
    none: "No runs yet",
    bad: `${several(bad.length, "test")} of ${trends.length} ${bad.length === 1 ? "is" : "are"} bad`,
    open: `Nothing is known to be bad; the last run of ${several(open.length, "test")} of ${trends.length} proves nothing`,
    good: `All ${several(trends.length, "test")} are good`,
  };
  const lines = bad.slice(0, 6).map((trend) => {
    const { firstBad, lastGood, badNights: nightsBad } = trend;
    const what = (firstBad.anomalies ?? []).slice(0, 2).map(({ title }) => visible(title)).join(", ") || KINDS[firstBad.kind][1];
    const compare = lastGood === undefined ? [] : [element("a", { className: "links", href: comparisonOf(lastGood, firstBad), textContent: "compare with the last good" })];
    return element("p", {}, element("b", {}, bdi(firstBad.test)), ` since ${firstBad.when} (${several(nightsBad, "run")}): `, element("a", { href: mainLink(firstBad), textContent: what }), " ", ...issueLabels(firstBad), ...compare);
  });
  if (bad.length > lines.length) lines.push(element("p", { className: "note", textContent: `and ${several(bad.length - lines.length, "other test")} below` }));
  if (tone === "none") lines.push(element("p", { textContent: "splitvote run puts runs into a store; each then has a line here." }));
  const said = element("div", { className: "said" }, element("h1", { textContent: titles[tone] }), ...lines);
  if (tone === "good") said.append(element("p", { className: "note", textContent: `The last decided run of each was good, of ${several(amountOfRuns, "run")} in all.` }));
  const banner = document.getElementById("now");
  banner.classList.add(tone);
  banner.replaceChildren(said);
}

function showChosen(bar, picked, forget) {
  bar.hidden = picked.length === 0;
  const names = picked.map((run) => element("span", {}, word(run.kind, ""), bdi(run.test), ` ${run.when}`));
  const link = picked.length === 2 ? element("a", { className: "button", id: "compare", href: comparisonOf(...picked), textContent: "Compare" }) : element("span", { className: "note", textContent: "choose a second run to compare it with" });
  bar.replaceChildren(...names, link, element("button", { type: "button", textContent: "Forget", onclick: forget }));
}

function listenForIndexKeys(table, filters) {
  const actions = {
    "/": () => filters.search.focus(),
    j: () => table.step(1),
    k: () => table.step(-1),
    x: () => table.atFocus() && table.toggle(table.atFocus()),
    c: () => document.getElementById("compare")?.click(),
    Escape: () => table.forget(),
    "?": () => document.getElementById("keys").toggleAttribute("open"),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target === filters.search && event.key === "Escape") return target.blur();
    if (target.closest?.("input:not([type=checkbox]), select")) return;
    if (event.key === "Enter" && target.matches?.("#rows tbody tr")) location.href = mainLink(table.atFocus());
    if (actions[event.key] === undefined) return;
    event.preventDefault();
    actions[event.key]();
  });
}

start().catch((problem) => {
  const said = `The runs cannot be shown: ${problem.message}. The page needs a browser of 2024 or later.`;
  document.getElementById("now").replaceChildren(element("p", { className: "warning", textContent: said }));
  console.error(problem);
});
