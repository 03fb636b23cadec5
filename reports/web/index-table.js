// The table of runs: sorted, a page at a time, with up to two runs chosen for comparing.

const PAGE_ROWS = 150;

const COLUMNS = [
  { name: "", label: "choose" },
  { name: "started", sort: (run) => run.started_ms ?? 0 },
  { name: "test", sort: (run) => run.test },
  { name: "verdict", sort: (run) => -Object.keys(KINDS).indexOf(run.kind) },
  { name: "found" },
  { name: "faults", sort: (run) => Object.values(run.faults ?? {}).reduce((sum, [all, proven]) => sum + Math.max(all, proven), 0) },
  { name: "length", number: true, sort: (run) => run.duration_s ?? 0 },
  { name: "operations", number: true, sort: (run) => run.total?.invoked ?? -1 },
  { name: "p99", number: true, sort: (run) => run.latency_ms?.p99 ?? -1 },
  { name: "recovery", number: true, sort: (run) => run.recovery_ms?.max ?? -1 },
  { name: "" },
];

class RunTable {
  constructor(served, changed) {
    this.served = served;
    this.changed = changed;
    this.table = document.getElementById("rows");
    this.more = document.getElementById("more");
    this.picked = [];
    this.sorting = { column: COLUMNS[1], isAscending: false };
    this.runs = [];
    this.limit = PAGE_ROWS;
    this.body = element("tbody");
    this.more.addEventListener("click", () => this.showMore());
    this.table.append(this.head(), this.body);
  }

  head() {
    this.heads = COLUMNS.map((column) => {
      const inside = column.sort === undefined ? column.name : element("button", { type: "button", textContent: column.name, onclick: () => this.sortBy(column) });
      const head = element("th", { className: column.number ? "n" : "" }, inside);
      if (column.label !== undefined) head.setAttribute("aria-label", column.label);
      return head;
    });
    return element("thead", {}, element("tr", {}, ...this.heads));
  }

  sortBy(column) {
    const isAscending = this.sorting.column === column && !this.sorting.isAscending;
    this.sorting = { column, isAscending };
    this.show(this.runs);
  }

  // Show these runs (the newest first) from the start.
  show(runs) {
    this.runs = runs;
    const { column, isAscending } = this.sorting;
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    this.sorted = [...runs].sort((a, b) => (isAscending ? 1 : -1) * order(column.sort(a), column.sort(b)));
    COLUMNS.forEach((each, at) => {
      if (each === column) this.heads[at].setAttribute("aria-sort", isAscending ? "ascending" : "descending");
      else this.heads[at].removeAttribute("aria-sort");
    });
    this.limit = PAGE_ROWS;
    this.body.replaceChildren();
    this.fill();
  }

  fill() {
    const from = this.body.children.length;
    this.body.append(...this.sorted.slice(from, this.limit).map((run) => this.row(run)));
    const left = this.sorted.length - this.body.children.length;
    this.more.hidden = left === 0;
    this.more.textContent = `Show ${amount(Math.min(left, PAGE_ROWS))} more of ${amount(left)}`;
  }

  showMore() {
    const first = this.body.children.length;
    this.limit += PAGE_ROWS;
    this.fill();
    this.focusRow(first);
  }

  row(run) {
    const box = element("input", { type: "checkbox", checked: this.picked.includes(run), ariaLabel: `Compare ${run.id}`, tabIndex: -1, onchange: () => this.toggle(run) });
    const row = element(
      "tr",
      { tabIndex: -1, className: this.picked.includes(run) ? "picked" : "" },
      element("td", {}, box),
      element("td", { className: "when" }, element("a", { href: mainLink(run), textContent: run.when }), element("div", { className: "note", textContent: run.seed === undefined ? "" : `seed ${run.seed}` })),
      element("td", { className: "test" }, bdi(run.test), element("div", { className: "note", textContent: versionsOf(run) })),
      element("td", {}, ...verdictOf(run)),
      element("td", { className: "found" }, ...foundIn(run)),
      element("td", { className: "injected" }, ...injectedIn(run)),
      element("td", { className: "n", textContent: run.duration_s === undefined ? "–" : inLength(run.duration_s) }),
      element("td", { className: "n" }, ...operationsOf(run)),
      element("td", { className: "n", textContent: run.latency_ms?.p99 === undefined ? "–" : inMs(run.latency_ms.p99) }),
      element("td", { className: "n", textContent: run.recovery_ms?.max === undefined ? "–" : inMs(run.recovery_ms.max) }),
      element("td", { className: "beside" }, ...fileLinks(run, this.served)),
    );
    row.dataset.run = run.id;
    return row;
  }

  // Choose a run, or no longer; of three the first gives way.
  toggle(run) {
    this.picked = this.picked.includes(run) ? this.picked.filter((other) => other !== run) : [...this.picked, run].slice(-2);
    this.mark();
  }

  forget() {
    this.picked = [];
    this.mark();
  }

  mark() {
    const picked = new Set(this.picked.map((run) => run.id));
    for (const row of this.body.children) {
      row.classList.toggle("picked", picked.has(row.dataset.run));
      row.querySelector("input").checked = picked.has(row.dataset.run);
    }
    this.changed(this.picked);
  }

  // Keys: the row that has the focus, or none.
  focused() {
    const row = document.activeElement?.closest?.("#rows tbody tr");
    return row === null || row === undefined ? -1 : [...this.body.children].indexOf(row);
  }

  focusRow(at) {
    const row = this.body.children[Math.max(0, Math.min(at, this.body.children.length - 1))];
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  }

  step(by) {
    const at = this.focused();
    this.focusRow(at < 0 ? 0 : at + by);
  }

  atFocus() {
    return this.sorted[this.focused()];
  }
}

function versionsOf(run) {
  const parts = [run.versions?.map(visible).join(", "), run.nodes > 0 ? several(run.nodes, "node") : "", run.cluster === undefined || run.cluster === "local" ? "" : visible(run.cluster)];
  return parts.filter(Boolean).join(", ");
}

function verdictOf(run) {
  const shown = [run.kind === "expected" ? word("expected", "INVALID") : word(run.kind)];
  const say = (text, className, why) => shown.push(element("div", {}, element("span", { className: `label ${className}`, textContent: text, title: why })));
  if (run.expected === "unsafe") say("expected: unsafe", "expected", "The workload shows what the system does not promise");
  if (run.failure !== undefined && run.kind !== "failed") say("harness failed", "failed", run.failure);
  if (run.interrupted) say("interrupted", "", "What was recorded until then is judged");
  return shown;
}

const ANOMALIES_SHOWN = 3;

// What was found, or why nothing could be said: anomalies, known issues, the reason.
function foundIn(run) {
  const anomalies = run.anomalies ?? [];
  const shown = anomalies.slice(0, ANOMALIES_SHOWN).map(({ title, count }) => element("div", {}, bdi(title), count > 1 ? ` × ${amount(count)}` : ""));
  if (anomalies.length > ANOMALIES_SHOWN) shown.push(element("div", { className: "note", textContent: `and ${several(anomalies.length - ANOMALIES_SHOWN, "other kind")}` }));
  const issues = issueLabels(run);
  if (issues.length > 0) shown.push(element("div", {}, ...issues.flatMap((issue) => [issue, " "])));
  const reason = run.problem ?? run.failure ?? (anomalies.length > 0 ? undefined : (run.checkers ?? []).find(({ verdict }) => verdict === run.verdict && verdict !== "VALID")?.reason);
  if (reason) shown.push(element("div", { className: "note", textContent: visible(reason).slice(0, 160), title: visible(reason) }));
  return shown;
}

function injectedIn(run) {
  const families = faultsInWords(run).map((text) => element("span", { textContent: text }));
  return families.length > 0 ? families : ["none"];
}

function operationsOf(run) {
  if (run.total?.invoked === undefined) return ["–"];
  const { invoked, ok = 0, fail = 0, info = 0 } = run.total;
  const bar = element("span", { className: "mix", role: "img", ariaLabel: `${ok} ok, ${fail} fail, ${info} info`, title: `${amount(ok)} ok, ${amount(fail)} fail, ${amount(info)} info` });
  for (const [name, number] of Object.entries({ ok, fail, info })) {
    if (number > 0) bar.append(element("i", { className: name, style: `flex-grow: ${number}` }));
  }
  return [amount(invoked), bar];
}
