// Latency of every operation by the time of its invocation, on a logarithmic scale, with quantiles of the ok ones.

const LATENCY_HEIGHT = 170;
const LATENCY_ROWS = 81;
const ROW_PIXELS = 2;
const QUANTILES = [[0.5, []], [0.99, [5, 3]]];

class LatencyPanel {
  title = "Latency";
  height = LATENCY_HEIGHT;
  shaded = true;

  get unit() {
    return `${this.fromIntent ? "from the intended start" : "from the invocation"}, log scale; lines: p50 and (dashed) p99 of ok`;
  }

  constructor(ops) {
    this.ops = ops;
    this.columns = new Columns();
    this.raster = new Raster();
    this.count(false);
  }

  // Whether waiting for a free client counts: without it a stalled system looks faster than it was.
  count(fromIntent) {
    this.fromIntent = fromIntent;
    this.countedFor = undefined;
    this.range = latencyRange(this.ops, fromIntent);
    const { low, high } = decadesOf(this.range);
    const perDecade = (LATENCY_ROWS - 1) / (high - low);
    const { ops } = this;
    // The row of every operation, 0 at the bottom; those never answered lie in the topmost.
    this.row = new Uint8Array(ops.count);
    for (let i = 0; i < ops.count; i++) {
      const latency = latencyOf(ops, i, fromIntent);
      const row = latency === Infinity ? LATENCY_ROWS - 1 : Math.round((Math.log10(Math.max(latency, 1e-3)) - low) * perDecade);
      this.row[i] = Math.min(Math.max(row, 0), LATENCY_ROWS - 1);
    }
  }

  draw(view, top, bottom) {
    this.scale = logScale(this.range[0], this.range[1], top + 6, top + 6 + (LATENCY_ROWS - 1) * ROW_PIXELS);
    drawTicks(view, this.scale);
    this.fill(view);
    if (operationsInView(view) > DENSE_OPERATIONS) this.drawPixels(view, top);
    else this.drawMarks(view);
    for (const [share, dash] of QUANTILES) this.drawQuantile(view, share, dash);
  }

  // -- counting ----------------------------------------------------------------------

  fill(view) {
    const { axis } = view;
    const columns = this.columns.reset(LATENCY_ROWS, Math.ceil(axis.width));
    const density = this.densityOf(view);
    const level = density === null ? -1 : density.levelFor(axis);
    if (level >= 0) {
      density.fill(columns, axis, level);
      return;
    }
    const { ops, filters } = view;
    const perMs = axis.width / (axis.to - axis.from);
    const last = firstFrom(ops, axis.to);
    for (let i = firstFrom(ops, axis.from); i < last; i++) {
      if (filters.mask[i] === 0) continue;
      const x = Math.min(Math.floor((ops.start[i] - axis.from) * perMs), columns.width - 1);
      columns.counts[(this.row[i] * columns.width + x) * OUTCOME_COUNT + ops.outcome[i] - 1]++;
    }
  }

  densityOf(view) {
    const { ops, filters, run } = view;
    if (ops.count < FEWEST_FOR_DENSITY) return null;
    if (this.countedFor !== filters.version) {
      this.countedFor = filters.version;
      this.density = new Density(LATENCY_ROWS, run.end_ms);
      for (let i = 0; i < ops.count; i++) {
        if (filters.mask[i] !== 0) this.density.add(this.row[i], ops.start[i], ops.start[i], ops.outcome[i]);
      }
      this.density.finish();
    }
    return this.density;
  }

  // -- drawing -----------------------------------------------------------------------

  // Too many for marks: a block of two by two pixels a cell, the graver outcome on top, more of them darker.
  drawPixels(view, top) {
    const { axis, context, colours } = view;
    const { counts, width } = this.columns;
    const raster = this.raster.reset(axis.width + 1, LATENCY_ROWS * ROW_PIXELS);
    const okPixels = Array.from({ length: 9 }, (_, step) => pixelOf(colours.ok, 90 + step * 18));
    const [failPixel, infoPixel] = [pixelOf(colours.fail, 255), pixelOf(colours.info, 255)];
    for (let row = 0; row < LATENCY_ROWS; row++) {
      const y = (LATENCY_ROWS - 1 - row) * ROW_PIXELS;
      for (let x = 0; x < width; x++) {
        const at = (row * width + x) * OUTCOME_COUNT;
        const ok = counts[at];
        const worse = counts[at + 2] > 0 ? infoPixel : counts[at + 1] > 0 ? failPixel : 0;
        if (ok === 0 && worse === 0) continue;
        const pixel = worse || okPixels[Math.min(31 - Math.clz32(ok), 8)];
        const place = y * raster.width + x;
        raster.pixels[place] = raster.pixels[place + 1] = pixel;
        raster.pixels[place + raster.width] = raster.pixels[place + raster.width + 1] = pixel;
      }
    }
    raster.drawTo(context, axis.left, top + 5);
  }

  // One mark an operation, at most one an outcome and pixel.
  drawMarks(view) {
    const { axis, context, colours, ops, filters } = view;
    const last = firstFrom(ops, axis.to);
    const first = firstFrom(ops, axis.from);
    for (const outcome of OUTCOME_ORDER) {
      context.fillStyle = context.strokeStyle = colours[OUTCOMES[outcome]];
      context.globalAlpha = outcome === 1 ? 0.55 : 0.85;
      context.beginPath();
      for (let i = first; i < last; i++) {
        if (filters.mask[i] !== 0 && ops.outcome[i] === outcome) markOutcome(context, outcome, axis.x(ops.start[i]), this.y(i));
      }
      if (outcome === 2) context.stroke();
      else context.fill();
    }
    context.globalAlpha = 1;
  }

  y(i) {
    const latency = latencyOf(this.ops, i, this.fromIntent);
    return this.scale.y(latency === Infinity ? 10 ** decadesOf(this.range).high : latency);
  }

  // A quantile of the ok operations in each stretch of time, where it holds enough of them to have one.
  drawQuantile(view, share, dash) {
    const { axis, context, colours } = view;
    const { counts, width } = this.columns;
    const step = roundStep(((axis.to - axis.from) / axis.width) * 12);
    const least = Math.ceil(1 / (1 - share)) / 2;
    context.strokeStyle = colours.ink;
    context.globalAlpha = 0.75;
    context.lineWidth = 1.2;
    context.setLineDash(dash);
    context.beginPath();
    let open = false;
    const first = Math.floor(axis.from / step) * step;
    for (let from = first; from < axis.to; from += step) {
      const [left, right] = [from, from + step].map((ms) => Math.min(Math.max(Math.round(axis.x(ms) - axis.left), 0), width));
      const row = quantileRow(counts, width, left, right, share, least);
      if (row < 0) {
        open = false;
        continue;
      }
      const y = this.scale.y(this.latencyAt(row));
      if (open) context.lineTo(axis.left + left, y);
      else context.moveTo(axis.left + left, y);
      context.lineTo(axis.left + right, y);
      open = true;
    }
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1;
    context.globalAlpha = 1;
  }

  latencyAt(row) {
    const { low, high } = decadesOf(this.range);
    return 10 ** (low + (row / (LATENCY_ROWS - 1)) * (high - low));
  }

  hit(view, x, y) {
    const { axis, ops, filters } = view;
    let best = -1;
    let nearest = 9 ** 2;
    const last = firstFrom(ops, axis.ms(x + 9));
    for (let i = firstFrom(ops, axis.ms(x - 9)); i < last; i++) {
      if (filters.mask[i] === 0) continue;
      const distance = (axis.x(ops.start[i]) - x) ** 2 + (this.y(i) - y) ** 2;
      if (distance < nearest) [best, nearest] = [i, distance];
    }
    return best;
  }
}

// The row below which this share of the ok operations of some columns lies; -1 where there are too few of them.
function quantileRow(counts, width, left, right, share, least) {
  let total = 0;
  for (let row = 0; row < LATENCY_ROWS; row++) {
    for (let x = left; x < right; x++) total += counts[(row * width + x) * OUTCOME_COUNT];
  }
  if (total < least || total === 0) return -1;
  let below = 0;
  for (let row = 0; row < LATENCY_ROWS; row++) {
    for (let x = left; x < right; x++) below += counts[(row * width + x) * OUTCOME_COUNT];
    if (below >= total * share) return row;
  }
  return LATENCY_ROWS - 1;
}

// ok is a dot, fail a cross, info a triangle.
function markOutcome(context, outcome, x, y) {
  if (outcome === 1) {
    context.rect(x - 1.9, y - 1.9, 3.8, 3.8);
  } else if (outcome === 2) {
    context.moveTo(x - 2.4, y - 2.4);
    context.lineTo(x + 2.4, y + 2.4);
    context.moveTo(x - 2.4, y + 2.4);
    context.lineTo(x + 2.4, y - 2.4);
  } else {
    context.moveTo(x, y - 3.4);
    context.lineTo(x + 3.2, y + 2.4);
    context.lineTo(x - 3.2, y + 2.4);
  }
}

function latencyOf(ops, i, fromIntent) {
  return ops.end[i] - ops.start[i] + (fromIntent ? ops.late_us[i] / 1e3 : 0);
}

// The least and the greatest latency in ms, of those that were answered.
function latencyRange(ops, fromIntent) {
  let low = Infinity;
  let high = 1;
  for (let i = 0; i < ops.count; i++) {
    const latency = latencyOf(ops, i, fromIntent);
    if (latency > 0 && latency < low) low = latency;
    if (latency !== Infinity && latency > high) high = latency;
  }
  return [Math.min(low, 1), high];
}
