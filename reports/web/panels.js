// What panels share, and the panels of faults and throughput.  A panel has a title and a height, and draws itself
// between top and bottom on the shared time axis; `hit` finds the operation under the pointer.

const OUTCOME_ORDER = [1, 2, 3];
const FAMILY_COLOURS = ["#b5524a", "#7d62b5", "#2f8f84", "#8b8a34", "#5f7f9f", "#b8688c", "#a0703c", "#4f8f4a"];
const NODE_COLOURS = ["#4a79ab", "#c88a2e", "#3f9484", "#a5669a", "#7c7d3b", "#95694f", "#5e9fc9", "#b35a5e", "#6d70c4"];

function familyColours(faults) {
  const families = [...new Set(faults.map((fault) => fault.family))];
  return new Map(families.map((family, place) => [family, FAMILY_COLOURS[place % FAMILY_COLOURS.length]]));
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

// Bins of a view for rates: `step` ms each, the first beginning at `first`, whole ones also where they reach out of view.
function binsOf(axis, pixels) {
  const step = roundStep(((axis.to - axis.from) / axis.width) * pixels);
  const first = Math.floor(axis.from / step) * step;
  return { step, first, amount: Math.max(1, Math.ceil((axis.to - first) / step - 1e-9)) };
}

// Completions by outcome in each bin: from running totals where bins are long, else counted one by one.
function completionsByBin(view, { step, first, amount }) {
  const { ops, filters } = view;
  const found = [null, ...OUTCOME_ORDER.map(() => new Float64Array(amount))];
  const totals = ops.count >= FEWEST_FOR_DENSITY ? filters.completions() : null;
  if (totals !== null && step >= totals.bin_ms * 4) {
    for (const outcome of OUTCOME_ORDER) {
      for (let place = 0; place < amount; place++) {
        const from = first + place * step;
        found[outcome][place] = totals.before(outcome, from + step) - totals.before(outcome, from);
      }
    }
    return found;
  }
  const last = first + amount * step;
  for (let i = firstAtLeast(ops.reach, first); i < ops.count && ops.start[i] < last; i++) {
    if (filters.mask[i] === 0 || ops.end[i] < first || ops.end[i] >= last) continue;
    found[ops.outcome[i]][Math.min(Math.floor((ops.end[i] - first) / step), amount - 1)]++;
  }
  return found;
}

class ThroughputPanel {
  title = "Throughput";
  unit = "completions a second";
  height = 84;
  shaded = true;

  draw(view, top, bottom) {
    const { context, axis, colours } = view;
    const { step, first, rates } = this.rates(view);
    const peak = Math.max(...rates.slice(1).map((bin) => bin.reduce((a, b) => Math.max(a, b), 0)));
    const scale = linearScale(0, Math.max(peak, 1), top + 4, bottom);
    drawTicks(view, scale);
    for (const outcome of OUTCOME_ORDER) {
      context.strokeStyle = context.fillStyle = colours[OUTCOMES[outcome]];
      context.lineWidth = 1.4;
      context.beginPath();
      rates[outcome].forEach((rate, place) => {
        const y = scale.y(rate);
        context.lineTo(clampedX(axis, first + place * step), y);
        context.lineTo(clampedX(axis, first + (place + 1) * step), y);
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

  // Completions a second by outcome; the run's last bin is counted by the part of it that was run.
  rates(view) {
    const bins = binsOf(view.axis, 7);
    const rates = completionsByBin(view, bins);
    for (let place = 0; place < bins.amount; place++) {
      const length = Math.min(bins.step, Math.max(view.run.end_ms - bins.first - place * bins.step, bins.step / 4));
      for (const outcome of OUTCOME_ORDER) rates[outcome][place] *= 1e3 / length;
    }
    return { ...bins, rates };
  }
}

// The share of operations that ended ok, and above it the windows in which none did though some were tried.
class AvailabilityPanel {
  title = "Availability";
  unit = "share of operations ended ok; bars: windows without success";
  height = 58;
  shaded = true;

  draw(view, top, bottom) {
    const { context, axis, colours } = view;
    const scale = shareScale(top + 14, bottom - 1);
    drawTicks(view, scale);
    const bins = binsOf(axis, 9);
    const [, ok, fail, info] = completionsByBin(view, bins);
    context.fillStyle = colours.ok;
    context.globalAlpha = 0.75;
    for (let place = 0; place < bins.amount; place++) {
      const total = ok[place] + fail[place] + info[place];
      if (total < 0.5) continue;
      const [from, to] = [0, 1].map((more) => clampedX(axis, bins.first + (place + more) * bins.step));
      const y = scale.y(ok[place] / total);
      context.fillRect(from, y, to - from, bottom - 1 - y);
    }
    context.globalAlpha = 1;
    for (const window of view.run.unavailable) this.drawWindow(view, window, top);
  }

  // Red where nothing but the fault explains it, grey where the plan itself took the quorum away.
  drawWindow(view, window, top) {
    const { context, axis, colours } = view;
    const [from, to] = [window.start_ms, window.end_ms].map((ms) => clampedX(axis, ms));
    if (to <= axis.left || from >= axis.left + axis.width) return;
    context.fillStyle = window.planned ? colours.muted : colours.invalid;
    context.fillRect(from, top + 3, Math.max(to - from, 2), 7);
  }

  window(view, x, y) {
    const ms = view.axis.ms(x);
    return view.run.unavailable.find((window) => window.start_ms <= ms && ms <= window.end_ms);
  }
}

// A scale of shares from none to all.
function shareScale(top, bottom) {
  return { y: (share) => bottom - share * (bottom - top), ticks: [[0, "0 %"], [1, "100 %"]] };
}

function clampedX(axis, ms) {
  return Math.min(Math.max(axis.x(ms), axis.left), axis.left + axis.width);
}
