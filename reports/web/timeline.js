// The timeline: stacks the panels on one time axis and turns the pointer, the wheel and keys into zooming, moving and choosing.

const GUTTER = 104;
const TITLE_HEIGHT = 17;
const PANEL_GAP = TITLE_HEIGHT + 18;
const OVERVIEW_HEIGHT = 30;

class Timeline {
  constructor(run, ops, onChoose) {
    this.chart = document.getElementById("chart");
    this.base = document.getElementById("chart-base");
    this.hover = document.getElementById("chart-hover");
    this.onChoose = onChoose;
    this.view = {
      run,
      ops,
      axis: new TimeAxis(run.end_ms),
      families: familyColours(run.faults),
      marked: new Set(run.marked),
      longest: latencyRange(ops, false)[1],
      smallFont: "11px system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif",
    };
    this.view.filters = new Filters(ops, () => this.redraw());
    this.panels = this.makePanels();
    this.chosen = -1;
    this.pointed = -1;
    this.drag = null;
    this.listen();
    this.resize();
  }

  makePanels() {
    const { run, ops } = this.view;
    const panels = [];
    if (run.faults.length > 0) panels.push(new FaultsPanel(this.view));
    if (ops.count > 0) panels.push(new ThroughputPanel(), (this.latency = new LatencyPanel(ops)), new LanesPanel(this.view));
    if (run.members.time_ms.length > 0) panels.push(new LeadersPanel(this.view), new RevisionsPanel(this.view), new LagPanel());
    return panels;
  }

  // -- drawing ---------------------------------------------------------------

  resize() {
    const width = this.chart.clientWidth;
    this.height = OVERVIEW_HEIGHT + 22 + this.panels.reduce((sum, panel) => sum + panel.height + PANEL_GAP, 0);
    for (const canvas of [this.base, this.hover]) {
      canvas.width = Math.round(width * devicePixelRatio);
      canvas.height = Math.round(this.height * devicePixelRatio);
      canvas.style.height = `${this.height}px`;
      canvas.getContext("2d").setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    }
    this.width = width;
    this.view.axis.left = GUTTER;
    this.view.axis.width = Math.max(50, width - GUTTER - 20);
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
      this.drawHover();
    });
  }

  draw() {
    const { view } = this;
    const style = getComputedStyle(document.documentElement);
    view.dark = document.documentElement.dataset.theme === "dark";
    view.colours = Object.fromEntries(
      ["ok", "fail", "info", "ink", "muted", "line", "panel", "sunk", "accent", "invalid"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
    const context = (view.context = this.base.getContext("2d"));
    context.clearRect(0, 0, this.width, this.height);
    this.drawOverview();
    let top = OVERVIEW_HEIGHT + 30;
    for (const panel of this.panels) {
      this.drawTitle(panel, top);
      top += TITLE_HEIGHT;
      panel.area = [top, top + panel.height];
      if (panel.shaded) shadeFaults(view, top, top + panel.height);
      this.drawTimeGrid(top, top + panel.height);
      context.save();
      panel.draw(view, top, top + panel.height);
      context.restore();
      top += panel.height + PANEL_GAP - TITLE_HEIGHT;
    }
    this.describeRange();
  }

  drawTitle(panel, top) {
    const { context, colours, axis } = this.view;
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
    context.font = `600 ${this.view.smallFont}`;
    context.fillStyle = colours.ink;
    context.fillText(panel.title, axis.left, top + 11);
    if (panel.unit === undefined) return;
    const offset = context.measureText(panel.title).width + 8;
    context.font = this.view.smallFont;
    context.fillStyle = colours.muted;
    context.fillText(panel.unit, axis.left + offset, top + 11);
  }

  drawTimeGrid(top, bottom) {
    const { context, colours, axis } = this.view;
    context.strokeStyle = colours.line;
    context.beginPath();
    for (const [ms] of axis.ticks()) {
      const x = Math.round(axis.x(ms)) + 0.5;
      context.moveTo(x, top);
      context.lineTo(x, bottom);
    }
    context.stroke();
  }

  // The whole run in small, with what is shown framed, and the time ticks of what is shown below it.
  drawOverview() {
    const { context, colours, axis, ops, run, families } = this.view;
    const x = (ms) => axis.left + (ms / run.end_ms) * axis.width;
    context.fillStyle = colours.sunk;
    context.fillRect(axis.left, 2, axis.width, OVERVIEW_HEIGHT - 4);
    for (const fault of run.faults) {
      context.fillStyle = families.get(fault.family);
      context.globalAlpha = 0.28;
      context.fillRect(x(fault.start_ms), 2, Math.max(1, x(fault.end_ms ?? run.end_ms) - x(fault.start_ms)), OVERVIEW_HEIGHT - 4);
    }
    context.globalAlpha = 0.75;
    const bins = overviewBins(ops, run.end_ms, Math.floor(axis.width / 2));
    const peak = bins.reduce((a, b) => Math.max(a, b), 1);
    context.fillStyle = colours.ok;
    bins.forEach((amount, place) => {
      const height = (amount / peak) * (OVERVIEW_HEIGHT - 8);
      context.fillRect(axis.left + place * 2, OVERVIEW_HEIGHT - 2 - height, 1.6, height);
    });
    context.globalAlpha = 1;
    context.fillStyle = colours.panel;
    context.globalAlpha = 0.65;
    context.fillRect(axis.left, 0, x(axis.from) - axis.left, OVERVIEW_HEIGHT);
    context.fillRect(x(axis.to), 0, axis.left + axis.width - x(axis.to), OVERVIEW_HEIGHT);
    context.globalAlpha = 1;
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    context.strokeRect(x(axis.from) + 0.5, 1, Math.max(x(axis.to) - x(axis.from) - 1, 2), OVERVIEW_HEIGHT - 2);
    context.lineWidth = 1;
    context.font = this.view.smallFont;
    context.fillStyle = colours.muted;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText("whole run", axis.left - 8, OVERVIEW_HEIGHT / 2);
    context.textAlign = "center";
    for (const [ms, text] of axis.ticks()) context.fillText(text, axis.x(ms), OVERVIEW_HEIGHT + 14);
  }

  drawHover() {
    const context = this.hover.getContext("2d");
    const { axis, colours } = this.view;
    context.clearRect(0, 0, this.width, this.height);
    if (this.drag?.kind === "zoom") {
      context.fillStyle = colours.accent;
      context.globalAlpha = 0.16;
      context.fillRect(Math.min(this.drag.x, this.drag.to), OVERVIEW_HEIGHT + 22, Math.abs(this.drag.to - this.drag.x), this.height);
      context.globalAlpha = 1;
    }
    if (this.at !== undefined && this.at[0] >= axis.left) {
      context.strokeStyle = colours.muted;
      context.setLineDash([2, 3]);
      context.beginPath();
      context.moveTo(Math.round(this.at[0]) + 0.5, OVERVIEW_HEIGHT + 22);
      context.lineTo(Math.round(this.at[0]) + 0.5, this.height);
      context.stroke();
      context.setLineDash([]);
    }
    const lanes = this.panels.find((panel) => panel instanceof LanesPanel);
    for (const [i, colour] of [[this.pointed, colours.ink], [this.chosen, colours.accent]]) {
      if (i < 0 || lanes?.top === undefined) continue;
      const [x, y, width, height] = lanes.place(this.view, i);
      if (x + width < axis.left || x > axis.left + axis.width) continue;
      const left = Math.max(x - 2, axis.left - 2);
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(left, y - 1, Math.min(x + width + 2, axis.left + axis.width) - left, height + 2);
    }
  }

  describeRange() {
    const { axis, filters, ops } = this.view;
    document.getElementById("range").textContent = `${inSeconds(axis.from)} to ${inSeconds(axis.to)}`;
    const of = ops.count.toLocaleString("en");
    document.getElementById("shown-count").textContent =
      filters.passing === ops.count ? `${of} operations` : `${filters.passing.toLocaleString("en")} of ${of} operations pass the filters`;
  }

  // -- moving -----------------------------------------------------------------

  show(from_ms, to_ms) {
    this.view.axis.show(from_ms, to_ms);
    this.redraw();
  }

  step(name) {
    const { axis } = this.view;
    const length = axis.to - axis.from;
    ({
      in: () => axis.zoom(0.5),
      out: () => axis.zoom(2),
      left: () => axis.move(-length / 4),
      right: () => axis.move(length / 4),
      all: () => axis.show(...axis.full),
    })[name]();
    this.redraw();
  }

  countLatency(fromIntent) {
    this.latency?.count(fromIntent);
    this.redraw();
  }

  choose(place) {
    this.chosen = place;
    this.redraw();
  }

  // Bring an operation into view, with some context around it.
  reveal(place) {
    const { ops, axis, run } = this.view;
    const end = Math.min(ops.end[place], run.end_ms);
    const length = end - ops.start[place];
    const margin = Math.max(length * 2, Math.min(500, (axis.to - axis.from) / 8));
    this.chosen = place;
    this.show(ops.start[place] - margin, end + margin);
  }

  // -- the pointer ------------------------------------------------------------

  listen() {
    this.chart.addEventListener("pointerdown", (event) => this.press(event));
    this.chart.addEventListener("pointermove", (event) => this.move(event));
    this.chart.addEventListener("pointerup", (event) => this.release(event));
    this.chart.addEventListener("pointercancel", () => this.endDrag());
    this.chart.addEventListener("pointerleave", () => this.leave());
    this.chart.addEventListener("dblclick", () => this.step("all"));
    this.chart.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.chart.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("theme", () => {
      this.draw(); // at once: a page about to be printed gets no further frame
      this.drawHover();
    });
    new ResizeObserver(() => {
      if (this.chart.clientWidth !== this.width) this.resize();
    }).observe(this.chart);
  }

  position(event) {
    const box = this.base.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    if (event.button !== 0) return;
    const [x, y] = this.position(event);
    if (x < GUTTER - 6) return;
    const kind = y < OVERVIEW_HEIGHT ? "overview" : event.shiftKey ? "move" : "zoom";
    this.drag = { kind, x, to: x, moved: false, from_ms: this.view.axis.from };
    this.chart.setPointerCapture(event.pointerId);
    if (kind === "overview") this.centreOverview(x);
    hideTip();
  }

  move(event) {
    const [x, y] = this.position(event);
    const { axis } = this.view;
    if (this.drag === null) {
      this.point(x, y, event);
      return;
    }
    const before = this.drag.to;
    this.drag.to = Math.min(Math.max(x, axis.left), axis.left + axis.width);
    this.drag.moved ||= Math.abs(x - this.drag.x) > 4;
    if (this.drag.kind === "move") axis.move(axis.ms(before) - axis.ms(this.drag.to));
    if (this.drag.kind === "overview") this.centreOverview(x);
    if (this.drag.kind === "zoom") this.drawHover();
    else this.redraw();
  }

  centreOverview(x) {
    const { axis, run } = this.view;
    const centre = ((x - axis.left) / axis.width) * run.end_ms;
    axis.move(centre - (axis.from + axis.to) / 2);
    this.redraw();
  }

  release(event) {
    const drag = this.drag;
    this.endDrag();
    if (drag === null) return;
    const { axis } = this.view;
    if (drag.moved && drag.kind === "zoom") {
      const [from, to] = [axis.ms(Math.min(drag.x, drag.to)), axis.ms(Math.max(drag.x, drag.to))];
      this.show(from, to);
    } else if (!drag.moved) {
      const place = this.operationAt(...this.position(event));
      if (place >= 0) this.onChoose(place);
    }
  }

  endDrag() {
    this.drag = null;
    this.drawHover();
  }

  leave() {
    this.at = undefined;
    this.pointed = -1;
    hideTip();
    this.drawHover();
  }

  wheel(event) {
    const { axis } = this.view;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      axis.zoom(Math.exp(Math.sign(event.deltaY) * 0.25), axis.ms(this.position(event)[0]));
      this.redraw();
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      event.preventDefault();
      axis.move(((event.deltaX || event.deltaY) / axis.width) * (axis.to - axis.from));
      this.redraw();
    }
  }

  key(event) {
    const name = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", 0: "all" }[event.key];
    if (name === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.step(name);
  }

  panelAt(y) {
    return this.panels.find((panel) => panel.area && y >= panel.area[0] - 3 && y <= panel.area[1] + 3);
  }

  operationAt(x, y) {
    if (x < GUTTER) return -1;
    return this.panelAt(y)?.hit?.(this.view, x, y) ?? -1;
  }

  // The pointer rests somewhere: cross hair, and what there is in words.
  point(x, y, event) {
    this.at = [x, y];
    this.pointed = this.operationAt(x, y);
    this.chart.style.cursor = this.pointed >= 0 ? "pointer" : y < OVERVIEW_HEIGHT ? "grab" : "crosshair";
    this.drawHover();
    if (x < GUTTER || y < OVERVIEW_HEIGHT) {
      hideTip();
      return;
    }
    showTip(event, ...describePlace(this.view, this.panelAt(y), this.pointed, x, y));
  }
}

function overviewBins(ops, end_ms, amount) {
  const bins = new Float64Array(amount);
  for (let i = 0; i < ops.count; i++) {
    if (ops.outcome[i] === 1) bins[Math.min(amount - 1, Math.floor((ops.end[i] / end_ms) * amount))]++;
  }
  return bins;
}
