// What the pointer rests on, in words.

// The content of the tooltip: the operation under the pointer, else the fault, else what was the case at that moment.
function describePlace(view, panel, pointed, x, y) {
  const { axis, run } = view;
  const ms = axis.ms(x);
  const title = element("b", { textContent: inSeconds(ms) });
  const told = panel?.describe?.(view, x, y);
  if (told !== undefined) return told;
  if (pointed >= 0) return describeOperation(view.ops, pointed);
  const fault = panel instanceof FaultsPanel ? panel.fault(view, x, y) : undefined;
  if (fault !== undefined) return describeFault(fault);
  const active = run.faults.filter((f) => f.start_ms <= ms && (f.end_ms ?? run.end_ms) >= ms).map((f) => `${f.id} ${f.title}`);
  const lines = [title];
  if (active.length > 0) lines.push(element("div", { textContent: `under ${active.join(", ")}` }));
  const quiet = panel instanceof AvailabilityPanel ? panel.window(view, x, y) : undefined;
  if (quiet !== undefined) lines.push(element("div", { textContent: describeWindow(quiet) }));
  if (panel instanceof LeadersPanel || panel instanceof RevisionsPanel || panel instanceof ClocksPanel) lines.push(rows(membersSay(view, ms)));
  if (panel instanceof LagPanel) lines.push(element("div", { textContent: `lag ${run.members.lag_ms[Math.max(0, sampleAt(run.members, ms))]} ms` }));
  return lines;
}

function describeOperation(ops, i) {
  const open = ops.end[i] === Infinity;
  const name = `op ${ops.invoke[i]}: ${visible(ops.names.f[ops.f[i]])}`;
  const facts = [
    ["outcome", `${OUTCOMES[ops.outcome[i]]}${open ? " (never answered)" : ""}`],
    ["invoked", inSeconds(ops.start[i], 4)],
    ["took", open ? "–" : inMs(ops.end[i] - ops.start[i])],
    ...(ops.late_us[i] >= 1e3 ? [["waited", `${inMs(ops.late_us[i] / 1e3)} for a free client`]] : []),
    ["process", String(ops.process[i])],
  ];
  if (ops.key[i] !== NONE) facts.push(["key", visible(ops.names.key[ops.key[i]]).slice(0, 120)]);
  if (ops.names.workload.length > 1 && ops.workload[i] !== 0xff) facts.push(["workload", visible(ops.names.workload[ops.workload[i]])]);
  if (ops.node[i] !== 0xffff) facts.push(["node", visible(ops.names.node[ops.node[i]])]);
  return [element("b", { textContent: name }), rows(facts)];
}

function describeWindow({ start_ms, end_ms, tried, planned }) {
  const why = planned ? " (the plan took the quorum)" : "";
  return `nothing succeeded from ${inSeconds(start_ms)} for ${inMs(end_ms - start_ms)}, ${tried.toLocaleString("en")} operations tried${why}`;
}

function describeFault(fault) {
  return [
    element("b", { textContent: `fault ${fault.id}: ${fault.title}` }),
    rows([
      ["start", inSeconds(fault.start_ms)],
      ["end", fault.end_ms === null ? "never healed on record" : inSeconds(fault.end_ms)],
      ["effect", fault.proven ? "proven" : "not proven"],
    ]),
  ];
}

function rows(pairs) {
  return element("table", {}, ...pairs.map(([name, words]) => element("tr", {}, element("td", { className: "note", textContent: name }), element("td", { textContent: words }))));
}

function showTip(event, ...content) {
  const tip = document.getElementById("tip");
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - width - 12 : event.clientX + 16;
  const top = event.clientY + 16 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
