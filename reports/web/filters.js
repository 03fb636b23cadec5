// Filters: which operations are drawn, by workload, f, outcome, process, node and key.  `mask[i]` is 1 for those that
// pass, and `version` another number whenever that has changed.

class Filters {
  constructor(ops, end_ms, changed) {
    this.ops = ops;
    this.end_ms = end_ms;
    this.changed = changed;
    this.version = 0;
    this.hidden = { workload: new Set(), f: new Set(), outcome: new Set() };
    this.process = null;
    this.node = null;
    this.key = null;
    this.isOneKey = false;
    this.mask = new Uint8Array(ops.count).fill(1);
    this.passing = ops.count;
  }

  update() {
    const { ops, mask, hidden, process, node } = this;
    const passesF = Uint8Array.from(ops.names.f, (_, code) => Number(!hidden.f.has(code)));
    const passesOutcome = Uint8Array.from(OUTCOMES, (_, code) => Number(!hidden.outcome.has(code)));
    const passesWorkload = new Uint8Array(256).fill(1);
    for (const code of hidden.workload) passesWorkload[code] = 0;
    const passesKey = this.key === null ? null : Uint8Array.from(ops.names.key, (_, code) => Number(this.key(code)));
    let passing = 0;
    for (let i = 0; i < ops.count; i++) {
      let passes = passesF[ops.f[i]] & passesOutcome[ops.outcome[i]] & passesWorkload[ops.workload[i]];
      if (process !== null && ops.process[i] !== process) passes = 0;
      if (node !== null && ops.node[i] !== node) passes = 0;
      if (passesKey !== null) passes &= passesKey[ops.key[i]] ?? 0;
      mask[i] = passes;
      passing += passes;
    }
    this.passing = passing;
    this.version++;
    this.changed();
  }

  // Running totals of the completions that pass.
  completions() {
    if (this.completionsFor !== this.version) {
      this.completionsFor = this.version;
      this.totals = new Completions(this.ops, this.mask, this.end_ms);
    }
    return this.totals;
  }

  reset() {
    for (const codes of Object.values(this.hidden)) codes.clear();
    this.process = this.node = this.key = null;
    this.isOneKey = false;
    this.update();
  }

  // Build the controls into a container.
  mount(container) {
    const { names } = this.ops;
    container.replaceChildren();
    if (names.workload.length > 1) {
      container.append(this.toggles("workload", "workload", names.workload.map((name, code) => [code, visible(name)])));
    }
    container.append(
      this.toggles("f", "f", names.f.map((name, code) => [code, visible(name)])),
      this.toggles("outcome", "outcome", [1, 2, 3].map((code) => [code, OUTCOMES[code]])),
      this.nodeSelect(names.node),
      this.processInput(),
      this.keyInput(names.key),
      element("button", { type: "button", textContent: "Clear filters", id: "clear-filters", onclick: () => { this.reset(); this.mount(container); } }),
    );
  }

  toggles(label, field, choices) {
    const group = element("span", { className: "group" }, element("span", { textContent: label }));
    for (const [code, name] of choices) {
      const button = element("button", { type: "button", textContent: name, "data-filter": `${field}:${name}` });
      const set = this.hidden[field];
      button.ariaPressed = String(!set.has(code));
      button.addEventListener("click", () => {
        if (set.has(code)) set.delete(code);
        else set.add(code);
        button.ariaPressed = String(!set.has(code));
        this.update();
      });
      group.append(button);
    }
    return group;
  }

  nodeSelect(names) {
    const select = element("select", { "data-filter": "node", ariaLabel: "node" }, element("option", { value: "", textContent: "all" }));
    names.forEach((name, code) => select.append(element("option", { value: String(code), textContent: visible(name) })));
    select.addEventListener("change", () => {
      this.node = select.value === "" ? null : Number(select.value);
      this.update();
    });
    return element("label", { className: "group" }, element("span", { textContent: "node" }), select);
  }

  processInput() {
    const input = element("input", { type: "text", size: 5, placeholder: "all", inputMode: "numeric", "data-filter": "process", ariaLabel: "process" });
    input.addEventListener("input", () => {
      this.process = /^\d+$/.test(input.value.trim()) ? Number(input.value) : null;
      this.update();
    });
    return element("label", { className: "group" }, element("span", { textContent: "process" }), input);
  }

  // A key by its full name; any other text matches every key that contains it.
  keyInput(names) {
    const list = element("datalist", { id: "key-names" });
    for (const name of names.slice(0, 500)) list.append(element("option", { value: name }));
    const input = element("input", { type: "text", size: 10, placeholder: "all", "data-filter": "key", ariaLabel: "key" });
    input.setAttribute("list", "key-names");
    input.addEventListener("input", () => this.chooseKey(input.value));
    this.keyField = input;
    return element("label", { className: "group" }, element("span", { textContent: "key" }), input, list);
  }

  // Leave only what is of this key, or of every key with such a name; all keys for "".
  chooseKey(wanted) {
    const { names } = this.ops;
    const exact = names.key.indexOf(wanted);
    const matching = new Set(names.key.flatMap((name, code) => (exact < 0 ? name.includes(wanted) : code === exact) ? [code] : []));
    this.key = wanted === "" ? null : (code) => matching.has(code);
    this.isOneKey = wanted !== "" && matching.size === 1;
    this.keyField.value = wanted;
    this.update();
  }
}
