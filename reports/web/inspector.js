// The inspector: all fields of one operation and of its other half, at the right of the window.

class Inspector {
  constructor(run, ops, details, timeline) {
    this.run = run;
    this.ops = ops;
    this.details = details;
    this.timeline = timeline;
    this.panel = document.getElementById("inspector");
    this.place = -1;
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.panel.hidden) this.close();
    });
  }

  async open(place) {
    this.place = place;
    let found;
    try {
      found = await this.details.of(place);
    } catch (problem) {
      this.say(problem.message);
      return;
    }
    const { invoke, completion, events, eventCount } = found;
    if (this.place !== place) return; // another was chosen meanwhile
    this.show(
      `op ${this.ops.invoke[place]}: ${visible(String(invoke.f))}`,
      element("p", { className: "note", textContent: this.summary(place) }),
      this.buttons(place),
      pairOfRecords(invoke, completion),
    );
    if (eventCount > 0) this.showEvents(events, eventCount);
  }

  say(text) {
    this.place = -1;
    this.show("Nothing to show", element("p", { textContent: text }));
  }

  show(title, ...content) {
    const close = element("button", { type: "button", textContent: "Close", id: "close-inspector", onclick: () => this.close() });
    this.panel.replaceChildren(element("header", {}, element("h3", { textContent: title }), close), ...content);
    this.panel.hidden = false;
    this.panel.scrollTop = 0;
    document.body.classList.add("inspecting");
  }

  summary(place) {
    const { ops, run } = this;
    const end = Math.min(ops.end[place], run.end_ms);
    const length = ops.end[place] === Infinity ? "never answered" : `took ${inMs(ops.end[place] - ops.start[place])}`;
    const active = run.faults.filter((fault) => fault.start_ms <= end && (fault.end_ms ?? run.end_ms) >= ops.start[place]);
    const under = active.length === 0 ? "no fault active" : `under ${active.map((fault) => `${fault.title} (fault ${fault.id})`).join(", ")}`;
    return `${OUTCOMES[ops.outcome[place]]}, ${length}; ${under}.`;
  }

  buttons(place) {
    const [before, after] = [this.inLane(place, -1), this.inLane(place, 1)];
    const go = (to) => this.timeline.onChoose(to);
    const button = (text, onclick, disabled = false) => element("button", { type: "button", textContent: text, onclick, disabled });
    return element(
      "div",
      { className: "row" },
      button("← before in lane", () => go(before), before < 0),
      button("after in lane →", () => go(after), after < 0),
      button("Show on the timeline", () => {
        this.timeline.reveal(place);
        document.getElementById("chart").scrollIntoView({ block: "nearest" });
      }),
      ...(this.onMatches === undefined ? [] : [button("Matches", () => this.onMatches())]),
      button("Copy link", (event) => copy(location.href.split("#")[0] + `#op=${this.ops.invoke[place]}`, event.target)),
    );
  }

  // The operation so many places further in the same lane; -1 for none.
  inLane(place, by) {
    const lane = this.ops.lanes[this.ops.lane[place]];
    return lane[firstPlaceOf(lane, place) + by] ?? -1;
  }

  stepInLane(by) {
    const to = this.place < 0 ? -1 : this.inLane(this.place, by);
    if (to < 0) return;
    this.timeline.reveal(to);
    this.timeline.onChoose(to);
  }

  showEvents(events, eventCount) {
    const more = eventCount > events.length ? `, the first ${events.length} of them` : "";
    this.panel.append(element("h4", { textContent: `${eventCount} events while it was open${more}` }));
    for (const event of events) this.panel.append(recordTable([["event", event]]));
  }

  close() {
    this.panel.hidden = true;
    document.body.classList.remove("inspecting");
    this.place = -1;
    this.timeline.choose(-1);
    setFragment("");
  }
}

// An invocation beside its completion; a completion of nothing stands alone.
function pairOfRecords(invoke, completion) {
  if (completion === null) return recordTable([["invoked", { type: "invoke", ...invoke }], ["never answered", {}]]);
  if (completion.index === invoke.index) return recordTable([["completed", completion]]);
  return recordTable([["invoked", { type: "invoke", ...invoke }], ["completed", completion]]);
}

const FIELD_ORDER = ["type", "time_ns", "value", "error", "revision", "key", "f", "process", "node", "index", "intended_ns"];

// Records as columns, their fields as rows; what was not recorded stays empty.
function recordTable(columns) {
  const names = [...new Set([...FIELD_ORDER, ...columns.flatMap(([, record]) => Object.keys(record))])];
  const head = element("tr", {}, element("th"), ...columns.map(([title]) => element("th", { textContent: title })));
  const body = names
    .filter((name) => columns.some(([, record]) => record[name] !== undefined && record[name] !== null))
    .map((name) => {
      const cells = columns.map(([, record]) => element("td", {}, element("bdi", { textContent: fieldInWords(name, record[name]) })));
      return element("tr", {}, element("td", { className: "note", textContent: visible(name.replace(/_ns$/, "")) }), ...cells);
    });
  return element("table", { className: "records" }, element("thead", {}, head), element("tbody", {}, ...body));
}

// A field's value as JSON with nothing unseen in it; times in seconds.
function fieldInWords(name, value) {
  if (value === undefined || value === null) return "";
  if (name.endsWith("_ns")) return `${(value / 1e9).toFixed(6)} s`;
  return typeof value === "string" && name !== "value" && name !== "key" ? visible(value) : shown(value);
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1200);
}

function setFragment(fragment) {
  try {
    history.replaceState(null, "", `#${fragment}`);
  } catch {
    // some file:// viewers forbid it; links still work
  }
}
