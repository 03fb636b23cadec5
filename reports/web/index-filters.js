// Which runs are shown: a text, a test, a version, a fault, a cluster, and kinds of verdict; kept in the address.

const SELECTS = ["test", "version", "fault", "cluster"];

class Filters {
  constructor(runs, changed) {
    this.runs = runs;
    this.changed = changed;
    this.texts = new Map(runs.map((run) => [run, textOf(run)]));
    this.search = document.getElementById("search");
    this.selects = Object.fromEntries(SELECTS.map((name) => [name, document.getElementById(`filter-${name}`)]));
    this.kinds = new Set();
    this.buttons = new Map();
    this.fillSelects();
    this.makeButtons();
    this.read();
    this.search.addEventListener("input", () => this.apply());
    for (const select of Object.values(this.selects)) select.addEventListener("change", () => this.apply());
    document.getElementById("clear").addEventListener("click", () => this.clear());
  }

  fillSelects() {
    const values = { test: (run) => [run.test], version: (run) => run.versions ?? [], fault: (run) => run.families, cluster: (run) => (run.cluster ? [run.cluster] : []) };
    for (const [name, select] of Object.entries(this.selects)) {
      const found = [...new Set(this.runs.flatMap(values[name]))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
      select.append(element("option", { value: "", textContent: "any" }), ...found.map((value) => element("option", { value, textContent: visible(value) })));
    }
  }

  makeButtons() {
    const toggle = (kind) => {
      if (!this.kinds.delete(kind)) this.kinds.add(kind);
      this.apply();
    };
    for (const kind of Object.keys(KINDS)) {
      const count = element("span", { className: "n" });
      const button = element("button", { type: "button", onclick: () => toggle(kind) }, word(kind), count);
      this.buttons.set(kind, { button, count });
      document.getElementById("kinds").append(button);
    }
  }

  // From the address: ?q=text&test=kv&kinds=invalid,unknown (what follows a # names a section)
  read() {
    const given = new URLSearchParams(location.search);
    this.search.value = given.get("q") ?? "";
    for (const [name, select] of Object.entries(this.selects)) {
      const value = given.get(name) ?? "";
      select.value = [...select.options].some((option) => option.value === value) ? value : "";
    }
    this.kinds = new Set((given.get("kinds") ?? "").split(",").filter((kind) => Object.hasOwn(KINDS, kind)));
  }

  apply() {
    const chosen = new URLSearchParams();
    if (this.search.value.trim() !== "") chosen.set("q", this.search.value.trim());
    for (const [name, select] of Object.entries(this.selects)) if (select.value !== "") chosen.set(name, select.value);
    if (this.kinds.size > 0) chosen.set("kinds", [...this.kinds].join(","));
    const query = String(chosen);
    history.replaceState(null, "", location.pathname + (query === "" ? "" : `?${query}`) + location.hash);
    this.changed();
  }

  clear() {
    this.search.value = "";
    for (const select of Object.values(this.selects)) select.value = "";
    this.kinds.clear();
    this.apply();
  }

  chooseTest(test) {
    this.selects.test.value = test;
    this.apply();
  }

  // The runs that everything but the verdict leaves: what trends are made of.
  found() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { test, version, fault, cluster } = Object.fromEntries(SELECTS.map((name) => [name, this.selects[name].value]));
    return this.runs.filter(
      (run) =>
        (test === "" || run.test === test) &&
        (version === "" || run.versions?.includes(version)) &&
        (fault === "" || run.families.includes(fault)) &&
        (cluster === "" || run.cluster === cluster) &&
        words.every((wanted) => this.texts.get(run).includes(wanted)),
    );
  }

  // Those of the chosen kinds; the buttons say how many there are of each.
  ofKinds(found) {
    for (const [kind, { button, count }] of this.buttons) {
      const amountOfKind = found.filter((run) => run.kind === kind).length;
      count.textContent = amount(amountOfKind);
      button.setAttribute("aria-pressed", String(this.kinds.has(kind)));
      button.hidden = amountOfKind === 0 && !this.kinds.has(kind);
    }
    return this.kinds.size === 0 ? found : found.filter((run) => this.kinds.has(run.kind));
  }
}

// Everything that a search looks at.
function textOf(run) {
  const parts = [run.id, run.when, KINDS[run.kind][1], `seed:${run.seed}`, run.workload, run.cluster, run.splitvote, run.command, run.failure, run.problem];
  if (run.expected === "unsafe") parts.push("expected: unsafe");
  if (run.interrupted) parts.push("interrupted");
  parts.push(...(run.versions ?? []), ...run.families, ...(run.issues ?? []));
  for (const { name, title } of run.anomalies ?? []) parts.push(name, title);
  for (const { name, verdict, reason } of run.checkers ?? []) if (verdict !== "VALID") parts.push(name, reason);
  return parts.filter(Boolean).join("\n").toLowerCase();
}
