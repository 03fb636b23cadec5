// Latency of every operation by the time of its invocation, on a logarithmic scale.

class LatencyPanel {
  title = "Latency";
  height = 170;
  shaded = true;

  get unit() {
    return this.fromIntent ? "from the intended start, log scale" : "from the invocation, log scale";
  }

  constructor(ops) {
    this.fromIntent = false;
    this.ranges = [false, true].map((fromIntent) => latencyRange(ops, fromIntent));
  }

  // Whether waiting for a free client counts: without it a stalled system looks faster than it was.
  count(fromIntent) {
    this.fromIntent = fromIntent;
  }

  draw(view, top, bottom) {
    this.range = this.ranges[Number(this.fromIntent)];
    this.scale = logScale(this.range[0], this.range[1], top + 6, bottom - 2);
    drawTicks(view, this.scale);
    if (operationsInView(view) > DENSE_OPERATIONS) this.drawPixels(view, top, bottom);
    else this.drawMarks(view, top, bottom);
  }

  drawMarks(view, top, bottom) {
    const { context, colours } = view;
    const points = this.pointsByOutcome(view, top, bottom);
    for (const outcome of OUTCOME_ORDER) {
      context.fillStyle = context.strokeStyle = colours[OUTCOMES[outcome]];
      context.globalAlpha = outcome === 1 ? 0.55 : 0.85;
      context.beginPath();
      const found = points[outcome];
      for (let at = 0; at < found.length; at += 2) this.mark(context, outcome, found[at], found[at + 1], 1.9);
      if (outcome === 2) context.stroke();
      else context.fill();
    }
    context.globalAlpha = 1;
  }

  // Too many for marks: a block of two by two pixels each, the graver outcome on top.
  drawPixels(view, top, bottom) {
    const { axis, ops, context, colours } = view;
    const raster = new Raster(axis.width + 2, bottom - top + 2);
    const worst = new Uint8Array(raster.pixels.length);
    this.eachPoint(view, axis.from, axis.to, (i, x, y) => {
      const at = Math.round(y - top) * raster.width + Math.round(x - axis.left);
      if (ops.outcome[i] > worst[at]) worst[at] = ops.outcome[i];
    });
    const pixels = outcomePixels(colours, 150);
    for (let at = 0; at + raster.width + 1 < worst.length; at++) {
      if (worst[at] === 0) continue;
      const pixel = pixels[worst[at]];
      raster.pixels[at] = raster.pixels[at + 1] = raster.pixels[at + raster.width] = raster.pixels[at + raster.width + 1] = pixel;
    }
    raster.drawTo(context, axis.left, top);
  }

  // x and y of every point to draw, at most one an outcome and pixel.
  pointsByOutcome(view, top, bottom) {
    const { axis, ops } = view;
    const columns = Math.ceil(axis.width + 1);
    const seen = new Uint8Array(columns * Math.ceil(bottom - top + 1) * 4);
    const points = [[], [], [], []];
    this.eachPoint(view, axis.from, axis.to, (i, x, y) => {
      const outcome = ops.outcome[i];
      const pixel = (Math.round(y - top) * columns + Math.round(x - axis.left)) * 4 + outcome;
      if (seen[pixel] === 1) return;
      seen[pixel] = 1;
      points[outcome].push(x, y);
    });
    return points;
  }

  // ok is a dot, fail a cross, info a triangle.
  mark(context, outcome, x, y, radius) {
    if (outcome === 1) {
      context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
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

  // Every operation begun between these times; those never answered lie at the top.
  eachPoint(view, from, to, visit) {
    const { axis, ops, filters } = view;
    const ceiling = this.scale.y(this.range[1]) - 3;
    for (let i = firstFrom(ops, from); i < ops.count && ops.start[i] <= to; i++) {
      if (!filters.mask[i]) continue;
      const waited = this.fromIntent ? ops.late_us[i] / 1e3 : 0;
      const y = ops.end[i] === Infinity ? ceiling : this.scale.y(ops.end[i] - ops.start[i] + waited);
      visit(i, axis.x(ops.start[i]), y);
    }
  }

  hit(view, x, y) {
    let best = -1;
    let nearest = 9 ** 2;
    this.eachPoint(view, view.axis.ms(x - 9), view.axis.ms(x + 9), (i, px, py) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < nearest) [best, nearest] = [i, distance];
    });
    return best;
  }
}

// The least and the greatest latency in ms, of those that were answered.
function latencyRange(ops, fromIntent) {
  let low = Infinity;
  let high = 1;
  for (let i = 0; i < ops.count; i++) {
    const latency = ops.end[i] - ops.start[i] + (fromIntent ? ops.late_us[i] / 1e3 : 0);
    if (latency > 0 && latency < low) low = latency;
    if (latency !== Infinity && latency > high) high = latency;
  }
  return [Math.min(low, 1), high];
}
