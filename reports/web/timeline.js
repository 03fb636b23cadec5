// The timeline: stacks the panels on one time axis and turns the pointer, the wheel and keys into zooming, moving and choosing.

const GUTTER = 104;
const TITLE_HEIGHT = 17;
const PANEL_GAP = TITLE_HEIGHT + 18;
const OVERVIEW_HEIGHT = 30;
const FONTS = "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif";
const COLOURS = ["ok", "fail", "info", "ink", "muted", "line", "panel", "sunk", "accent", "valid", "invalid", "onbar"];

class Timeline {
  constructor(run, ops, details, onChoose) {
    this.chart = document.getElementById("chart");
    this.base = document.getElementById("chart-base");
    this.hover = document.getElementById("chart-hover");
    this.onChoose = onChoose;
    this.view = {
      run,
      ops,
      axis: new TimeAxis(run.end_ms),
      families: familyColours(run.faults),
      marked: run.marked.map((index) => placeOfRecord(ops, index)).filter((place) => place >= 0),
      found: [],
      smallFont: `11px ${FONTS}`,
      tinyFont: `10px ${FONTS}`,
    };
    this.view.filters = new Filters(ops, run.end_ms, () => this.filtered());
    this.keyValues = new KeyValuesPanel(this.view, details, () => this.redraw());
    this.overview = new Overview(this.view);
    this.colours();
    this.chart.dataset.endMs = run.end_ms;
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
    if (ops.count > 0) {
      this.latency = new LatencyPanel(ops);
      this.lanes = new LanesPanel(this.view, this.chart);
      panels.push(new ThroughputPanel(), new AvailabilityPanel(), this.latency, this.lanes);
    }
    panels.push(...run.views.map((described) => panelOfView(described, this.chart)));
    for (const panel of panels) if (panel.rows instanceof Rows) panel.rows.onScroll = () => this.redraw();
    if (run.members.time_ms.length > 0) panels.push(new LeadersPanel(this.view), new RevisionsPanel(this.view));
    const { clock_ms: wall, monotonic_ms: monotonic } = run.members;
    if (Object.keys(wall).length > 0) panels.push(new ClocksPanel(this.view, "Clock offset", wall));
    if (Object.keys(monotonic).length > 0) panels.push(new ClocksPanel(this.view, "Monotonic clock", monotonic));
    if (run.members.time_ms.length > 0) panels.push(new LagPanel());
    return panels;
  }

  // The filters have changed: the values of a key are shown while they name a single one.
  filtered() {
    const isShown = this.panels.includes(this.keyValues);
    const isWanted = this.view.filters.isOneKey;
    if (isWanted === isShown) {
      this.redraw();
      return;
    }
    if (isShown) this.panels.splice(this.panels.indexOf(this.keyValues), 1);
    else this.panels.splice(this.panels.indexOf(this.lanes) + 1, 0, this.keyValues);
    this.resize();
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
    this.chart.dataset.drawn = "no";
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
      this.drawHover();
    });
  }

  // The page's colours as the canvas needs them; asked for once a theme, not once a frame.
  colours() {
    const style = getComputedStyle(document.documentElement);
    this.view.dark = document.documentElement.dataset.theme === "dark";
    this.view.colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  draw() {
    const { view } = this;
    const context = (view.context = this.base.getContext("2d"));
    context.clearRect(0, 0, this.width, this.height);
    this.overview.draw(OVERVIEW_HEIGHT);
    let top = OVERVIEW_HEIGHT + 30;
    for (const panel of this.panels) {
      top += TITLE_HEIGHT;
      panel.area = [top, top + panel.height];
      if (panel.shaded) shadeFaults(view, top, top + panel.height);
      this.drawTimeGrid(top, top + panel.height);
      context.save();
      panel.draw(view, top, top + panel.height);
      context.restore();
      this.drawTitle(panel, top - TITLE_HEIGHT);
      top += panel.height + PANEL_GAP - TITLE_HEIGHT;
    }
    this.describeRange();
    this.chart.dataset.drawn = "yes";
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
    const { lanes } = this;
    for (const [i, colour] of [[this.pointed, colours.ink], [this.chosen, colours.accent]]) {
      if (i < 0 || lanes === undefined || !lanes.isInSight(this.view, i)) continue;
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
    setText(document.getElementById("range"), `${inSeconds(axis.from)} to ${inSeconds(axis.to)}`);
    const of = ops.count.toLocaleString("en");
    const passing = filters.passing.toLocaleString("en");
    setText(document.getElementById("shown-count"), filters.passing === ops.count ? `${of} operations` : `${passing} of ${of} operations pass the filters`);
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
    this.lanes.rows.reveal(ops.lane[place]);
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
      this.colours();
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

// Set a text only where it changes: every change makes the browser lay out anew.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
