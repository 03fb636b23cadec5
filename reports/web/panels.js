// What panels share, and the panels of faults and throughput.  A panel has a title and a height, and draws itself
// between top and bottom on the shared time axis; `hit` finds the operation under the pointer.

const OUTCOME_ORDER = [1, 2, 3];
const FAMILY_COLOURS = ["#b5524a", "#7d62b5", "#2f8f84", "#8b8a34", "#5f7f9f", "#b8688c", "#a0703c", "#4f8f4a"];
const NODE_COLOURS = ["#4a79ab", "#c88a2e", "#3f9484", "#a5669a", "#7c7d3b", "#95694f", "#5e9fc9", "#b35a5e", "#6d70c4"];

function familyColours(faults) {
  const families = [...new Set(faults.map((fault) => fault.family))];
  return new Map(families.map((family, place) => [family, FAMILY_COLOURS[place % FAMILY_COLOURS.length]]));
}

// First operation that starts at or after ms.
function firstFrom(ops, ms) {
  let low = 0;
  let high = ops.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ops.start[middle] < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Place in a lane of the last operation that starts at or before ms; -1 for none.
function lastInLane(ops, lane, ms) {
  let low = 0;
  let high = lane.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ops.start[lane[middle]] <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// Faint bands of the faults behind any panel.
function shadeFaults(view, top, bottom) {
  const { context, axis, run, families } = view;
  for (const fault of run.faults) {
    const from = Math.max(axis.x(fault.start_ms), axis.left);
    const to = Math.min(axis.x(fault.end_ms ?? run.end_ms), axis.left + axis.width);
    if (to < axis.left || from > axis.left + axis.width) continue;
    context.globalAlpha = view.dark ? 0.15 : 0.1;
    context.fillStyle = families.get(fault.family);
    context.fillRect(from, top, Math.max(to - from, 1), bottom - top);
  }
  context.globalAlpha = 1;
}

function drawTicks(view, scale, label = (text) => text) {
  const { context, axis, colours } = view;
  context.font = view.smallFont;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [value, text] of scale.ticks) {
    const y = Math.round(scale.y(value)) + 0.5;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(axis.left, y);
    context.lineTo(axis.left + axis.width, y);
    context.stroke();
    context.fillStyle = colours.muted;
    context.fillText(label(text), axis.left - 8, y);
  }
}

class FaultsPanel {
  constructor(view) {
    this.title = "Faults";
    this.rows = [...view.families.keys()];
    this.rowHeight = 20;
    this.height = this.rows.length * this.rowHeight + 2;
    this.shaded = false;
  }

  draw(view, top) {
    const { context, axis, run, families, colours } = view;
    const right = axis.left + axis.width;
    this.top = top;
    this.rows.forEach((family, row) => {
      context.font = view.smallFont;
      context.textAlign = "right";
      context.textBaseline = "middle";
      context.fillStyle = colours.muted;
      context.fillText(family, axis.left - 8, top + row * this.rowHeight + 10);
    });
    for (const fault of run.faults) {
      const from = Math.max(axis.x(fault.start_ms), axis.left);
      const to = Math.min(axis.x(fault.end_ms ?? run.end_ms), right);
      if (to < axis.left || from > right) continue;
      const y = top + this.rows.indexOf(fault.family) * this.rowHeight + 2;
      this.drawFault(view, fault, from, Math.max(to - from, 3), y, families.get(fault.family));
    }
  }

  drawFault(view, fault, x, width, y, colour) {
    const { context, axis } = view;
    const healing = fault.healing_ms === null ? x + width : Math.min(Math.max(axis.x(fault.healing_ms), x), x + width);
    context.fillStyle = colour;
    context.globalAlpha = 0.3;
    context.fillRect(x, y, width, 16);
    context.globalAlpha = fault.proven ? 0.88 : 0.3;
    context.fillRect(x, y, Math.max(healing - x, 3), 16);
    context.globalAlpha = 1;
    if (!fault.proven) {
      context.strokeStyle = colour;
      context.setLineDash([3, 2]);
      context.strokeRect(x + 0.5, y + 0.5, width - 1, 15);
      context.setLineDash([]);
    }
    if (width < 34) return;
    this.name(view, fault, x, y, [x, healing], fault.proven ? "#ffffff" : view.colours.ink);
    this.name(view, fault, x, y, [healing, x + width - 3], view.colours.ink);
  }

  // The part of a fault's name that lies between these ends, in the colour that reads on what is below it.
  name(view, fault, x, y, [from, to], colour) {
    const { context } = view;
    context.save();
    context.beginPath();
    context.rect(from, y, Math.max(to - from, 0), 16);
    context.clip();
    context.font = view.smallFont;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = colour;
    context.fillText(`${fault.id} ${fault.label}`, x + 5, y + 8.5);
    context.restore();
  }

  fault(view, x, y) {
    const family = this.rows[Math.floor((y - this.top) / this.rowHeight)];
    return view.run.faults.findLast((fault) => {
      const from = view.axis.x(fault.start_ms);
      const to = Math.max(view.axis.x(fault.end_ms ?? view.run.end_ms), from + 3);
      return fault.family === family && x >= from - 1 && x <= to + 1;
    });
  }
}

class ThroughputPanel {
  title = "Throughput";
  unit = "ops/s";
  height = 84;
  shaded = true;

  draw(view, top, bottom) {
    const { context, axis, colours } = view;
    const { step, first, bins } = this.rates(view);
    const peak = Math.max(...bins.slice(1).map((bin) => bin.reduce((a, b) => Math.max(a, b), 0)));
    const scale = linearScale(0, Math.max(peak, 1), top + 4, bottom);
    drawTicks(view, scale);
    for (const outcome of OUTCOME_ORDER) {
      context.strokeStyle = context.fillStyle = colours[OUTCOMES[outcome]];
      context.lineWidth = 1.4;
      context.beginPath();
      bins[outcome].forEach((rate, place) => {
        const y = scale.y(rate);
        context.lineTo(this.clamp(axis, first + place * step), y);
        context.lineTo(this.clamp(axis, first + (place + 1) * step), y);
      });
      context.stroke();
      if (outcome === 1) {
        context.lineTo(axis.left + axis.width, bottom);
        context.lineTo(axis.left, bottom);
        context.globalAlpha = 0.12;
        context.fill();
        context.globalAlpha = 1;
      }
    }
    context.lineWidth = 1;
  }

  clamp(axis, ms) {
    return Math.min(Math.max(axis.x(ms), axis.left), axis.left + axis.width);
  }

  // Completions per second by outcome in bins of `step` ms, the first bin starting at `first`; whole bins are
  // counted also where they reach out of view, and the run's last one by the part of it that was run.
  rates(view) {
    const { axis, ops, filters, run } = view;
    const step = roundStep(((axis.to - axis.from) / axis.width) * 7);
    const first = Math.floor(axis.from / step) * step;
    const amount = Math.max(1, Math.ceil((axis.to - first) / step - 1e-9));
    const last = first + amount * step;
    const bins = [null, ...OUTCOME_ORDER.map(() => new Array(amount).fill(0))];
    for (let i = firstFrom(ops, first - view.longest); i < ops.count && ops.start[i] < last; i++) {
      if (!filters.mask[i] || ops.end[i] < first || ops.end[i] >= last) continue;
      bins[ops.outcome[i]][Math.min(Math.floor((ops.end[i] - first) / step), amount - 1)]++;
    }
    const lengths = Array.from({ length: amount }, (_, place) => Math.min(step, Math.max(run.end_ms - first - place * step, step / 4)));
    for (const bin of bins.slice(1)) lengths.forEach((length, place) => (bin[place] *= 1e3 / length));
    return { step, first, bins };
  }
}
