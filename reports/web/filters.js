// Filters: which operations are drawn, by f, outcome, process, node and key.  `mask[i]` is 1 for those that pass.

class Filters {
  constructor(ops, changed) {
    this.ops = ops;
    this.changed = changed;
    this.hidden = { f: new Set(), outcome: new Set() };
    this.process = null;
    this.node = null;
    this.key = null;
    this.mask = new Uint8Array(ops.count).fill(1);
    this.passing = ops.count;
  }

  update() {
    const { ops, mask, hidden } = this;
    let passing = 0;
    for (let i = 0; i < ops.count; i++) {
      const passes =
        !hidden.f.has(ops.f[i]) &&
        !hidden.outcome.has(ops.outcome[i]) &&
        (this.process === null || ops.process[i] === this.process) &&
        (this.node === null || ops.node[i] === this.node) &&
        (this.key === null || this.key(ops.key[i]));
      mask[i] = passes ? 1 : 0;
      passing += mask[i];
    }
    this.passing = passing;
    this.changed();
  }

  reset() {
    this.hidden.f.clear();
    this.hidden.outcome.clear();
    this.process = this.node = this.key = null;
    this.update();
  }

  // Build the controls into a container.
  mount(container) {
    const { names } = this.ops;
    container.replaceChildren();
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
    input.addEventListener("input", () => {
      const wanted = input.value;
      const exact = names.indexOf(wanted);
      if (wanted === "") this.key = null;
      else if (exact >= 0) this.key = (code) => code === exact;
      else {
        const matching = new Set(names.flatMap((name, code) => (name.includes(wanted) ? [code] : [])));
        this.key = (code) => matching.has(code);
      }
      this.update();
    });
    return element("label", { className: "group" }, element("span", { textContent: "key" }), input, list);
  }
}
