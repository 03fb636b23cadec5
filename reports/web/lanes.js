// Operations as bars, one lane a client thread (or process); only the lanes in sight are drawn.

class LanesPanel {
  constructor(view, chart) {
    this.title = "Operations";
    this.rows = new Rows(view.ops.lanes.length, { most: 420, least: 5, tallest: 14 }, chart);
    this.unit = `${this.rows.told}one lane a thread`;
    this.height = this.rows.height;
    this.shaded = true;
    this.columns = new Columns();
    this.raster = new Raster();
  }

  get rowHeight() {
    return this.rows.rowHeight;
  }

  draw(view, top) {
    this.rows.placeAt(top);
    this.shown = view.ops.lanes.slice(this.rows.first, this.rows.first + this.rows.inSight);
    this.rows.drawNames(view, view.ops.names.lane);
    if (operationsInView(view) > DENSE_OPERATIONS) this.drawPixels(view, top);
    else this.drawBars(view, top);
    this.drawFrames(view);
  }

  // -- many: pixels --------------------------------------------------------------

  // Too many for bars: each column of a lane is divided by how much of it each outcome has, one that occurs at all
  // getting a pixel at least.
  drawPixels(view, top) {
    const { axis, context } = view;
    const columns = this.columns.reset(this.shown.length, Math.ceil(axis.width));
    const density = this.densityOf(view);
    const level = density === null ? -1 : density.levelFor(axis);
    if (level >= 0) density.fill(columns, axis, level, this.rows.first);
    else this.shown.forEach((lane, row) => this.fillColumns(view, lane, columns, row));
    const raster = this.raster.reset(axis.width, this.height);
    const gap = this.rowHeight > 4 ? 3 : 1;
    const { colours } = view;
    const pixels = [pixelOf(colours.ok, 205), pixelOf(colours.fail, 255), pixelOf(colours.info, 255)];
    for (let row = 0; row < columns.rows; row++) this.stack(raster, columns, row, pixels, gap);
    raster.drawTo(context, axis.left, top);
  }

  // The counts of all lanes, made anew when the filters have changed; null for runs too small to need them.
  densityOf(view) {
    const { ops, filters, run } = view;
    if (ops.count < FEWEST_FOR_DENSITY) return null;
    if (this.countedFor !== filters.version) {
      this.countedFor = filters.version;
      this.density = new Density(ops.lanes.length, run.end_ms);
      ops.lanes.forEach((lane, row) => {
        for (let at = 0; at < lane.length; at++) {
          const i = lane[at];
          if (filters.mask[i] !== 0) this.density.add(row, ops.start[i], untilOf(view, lane, at), ops.outcome[i]);
        }
      });
      this.density.finish();
    }
    return this.density;
  }

  fillColumns(view, lane, columns, row) {
    const { axis, ops, filters } = view;
    const perMs = axis.width / (axis.to - axis.from);
    const base = row * columns.width;
    for (let at = Math.max(0, lastInLane(ops, lane, axis.from)); at < lane.length; at++) {
      const i = lane[at];
      if (ops.start[i] > axis.to) break;
      const until = untilOf(view, lane, at);
      if (filters.mask[i] === 0 || until < axis.from) continue;
      const first = Math.max(Math.floor((ops.start[i] - axis.from) * perMs), 0);
      const last = Math.min(Math.max(Math.ceil((until - axis.from) * perMs), first + 1), columns.width);
      for (let x = first; x < last; x++) columns.counts[(base + x) * OUTCOME_COUNT + ops.outcome[i] - 1]++;
    }
  }

  // Paint each column of a lane from top to bottom: info, fail, ok.
  stack(raster, columns, row, pixels, gap) {
    const height = this.rowHeight - gap;
    const top = row * this.rowHeight + (gap >> 1);
    const { width, counts } = columns;
    for (let x = 0; x < width; x++) {
      const at = (row * width + x) * OUTCOME_COUNT;
      const [fail, info] = [counts[at + 1], counts[at + 2]];
      const total = counts[at] + fail + info;
      if (total === 0) continue;
      const infoEnd = info === 0 ? 0 : Math.ceil((height * info) / total);
      const failEnd = fail === 0 ? infoEnd : infoEnd + Math.ceil((height * fail) / total);
      for (let y = 0; y < height; y++) {
        raster.pixels[(top + y) * raster.width + x] = pixels[y < infoEnd ? 2 : y < failEnd ? 1 : 0];
      }
    }
  }

  // -- few: bars -------------------------------------------------------------------

  drawBars(view, top) {
    const { axis, ops, filters } = view;
    const thickness = this.rowHeight > 4 ? this.rowHeight - 3 : this.rowHeight - 0.5;
    const right = axis.left + axis.width;
    this.shown.forEach((lane, row) => {
      const y = top + row * this.rowHeight + (this.rowHeight - thickness) / 2;
      for (let at = Math.max(0, lastInLane(ops, lane, axis.from)); at < lane.length; at++) {
        const i = lane[at];
        if (ops.start[i] > axis.to) break;
        const until = untilOf(view, lane, at);
        if (filters.mask[i] === 0 || until < axis.from) continue;
        const from = Math.max(axis.x(ops.start[i]), axis.left);
        this.bar(view, i, from, y, Math.min(Math.max(axis.x(until), from + 1), right) - from, thickness);
      }
    });
    view.context.globalAlpha = 1;
  }

  bar(view, i, x, y, width, height) {
    const { context, ops, colours } = view;
    const outcome = ops.outcome[i];
    context.fillStyle = colours[OUTCOMES[outcome]];
    context.globalAlpha = outcome === 1 ? 0.8 : 1;
    const inset = outcome !== 3 && height > 6 ? 1 : 0;
    context.fillRect(x, y + inset, width > 4 ? width - 0.8 : width, height - 2 * inset);
    if (width < 46 || height < 10) return;
    context.save();
    context.beginPath();
    context.rect(x, y, width - 4, height);
    context.clip();
    context.globalAlpha = 1;
    context.font = view.tinyFont;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = colours.onbar;
    context.fillText(nameOfOperation(ops, i), x + 4, y + height / 2 + 0.5);
    context.restore();
  }

  // Operations of anomalies, and those that a search found, keep their frames at every zoom.
  drawFrames(view) {
    const { context, colours } = view;
    for (const [places, colour] of [[view.found, colours.accent], [view.marked, colours.invalid]]) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      for (const i of places) {
        if (view.filters.mask[i] === 0 || !this.isInSight(view, i)) continue;
        const [x, y, width, height] = this.place(view, i);
        const left = Math.max(x, view.axis.left);
        context.strokeRect(left - 1, y + 0.5, Math.min(x + width, view.axis.left + view.axis.width) - left + 2, height - 1);
      }
    }
    context.lineWidth = 1;
  }

  isInSight(view, i) {
    const { ops, axis, run } = view;
    return this.rows.isInSight(ops.lane[i]) && ops.start[i] <= axis.to && Math.min(ops.end[i], run.end_ms) >= axis.from;
  }

  hit(view, x, y) {
    const { ops, axis, filters } = view;
    const lane = ops.lanes[this.rows.at(y)];
    if (lane === undefined) return -1;
    const at = lastInLane(ops, lane, axis.ms(x + 3));
    for (let back = at; back >= 0 && back > at - 40; back--) {
      const i = lane[back];
      if (filters.mask[i] !== 0 && axis.x(untilOf(view, lane, back)) >= x - 3) return i;
    }
    return -1;
  }

  // Where an operation is drawn, for frames and the hover layer.
  place(view, i) {
    const { ops, axis } = view;
    const lane = ops.lanes[ops.lane[i]];
    const end = ops.end[i] === Infinity ? untilOf(view, lane, firstPlaceOf(lane, i)) : ops.end[i];
    const x = axis.x(ops.start[i]);
    return [x, this.rows.y(ops.lane[i]), Math.max(axis.x(end) - x, 2), this.rowHeight];
  }
}

// Until when an operation is drawn: one that was never answered, to the next of its lane.
function untilOf(view, lane, at) {
  const end = view.ops.end[lane[at]];
  if (end !== Infinity) return end;
  return at + 1 < lane.length ? view.ops.start[lane[at + 1]] : view.run.end_ms;
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

function firstPlaceOf(lane, i) {
  return firstAtLeast(lane, i);
}

function nameOfOperation(ops, i) {
  const key = ops.key[i] === NONE ? "" : ` ${visible(ops.names.key[ops.key[i]]).slice(0, 40)}`;
  return `${visible(ops.names.f[ops.f[i]])}${key}`;
}
