// Operations as bars, one lane a client thread (or process).

class LanesPanel {
  constructor(view) {
    this.title = "Operations";
    this.unit = "one lane a thread";
    const lanes = view.ops.lanes.length;
    this.rowHeight = Math.min(14, Math.max(2, Math.floor(420 / Math.max(lanes, 1))));
    this.height = Math.max(lanes * this.rowHeight, 14);
    this.shaded = true;
  }

  draw(view, top) {
    this.top = top;
    if (operationsInView(view) > DENSE_OPERATIONS) this.drawPixels(view, top);
    else this.drawBars(view, top);
  }

  // Too many for bars: each column of a lane is divided by how often each outcome is in it, one that occurs at all
  // getting a pixel at least; marked operations keep their frames.
  drawPixels(view, top) {
    const { axis, ops, context, colours } = view;
    const raster = new Raster(axis.width, this.height);
    const pixels = outcomePixels(colours, 205);
    const counts = new Uint32Array(raster.width * 4);
    const framed = [];
    const gap = this.rowHeight > 4 ? 3 : this.rowHeight > 2 ? 1 : 0;
    ops.lanes.forEach((lane, row) => {
      this.nameLane(view, row, top + (row + 0.5) * this.rowHeight);
      counts.fill(0);
      this.eachInLane(view, lane, (i, from, to) => {
        const first = Math.floor(from - axis.left);
        const last = Math.min(Math.max(Math.ceil(to - axis.left), first + 1), raster.width);
        for (let x = first; x < last; x++) counts[x * 4 + ops.outcome[i]]++;
        if (view.marked.has(ops.invoke[i])) framed.push([i, row, from, to]);
      });
      this.stack(raster, counts, pixels, row * this.rowHeight + (gap >> 1), this.rowHeight - gap);
    });
    raster.drawTo(context, axis.left, top);
    for (const [i, row, from, to] of framed) this.bar(view, i, from, top + row * this.rowHeight + 1, to - from, this.rowHeight - 2);
  }

  // Paint each column from top to bottom: info, fail, ok.
  stack(raster, counts, pixels, top, height) {
    for (let x = 0; x < raster.width; x++) {
      const [ok, fail, info] = [counts[x * 4 + 1], counts[x * 4 + 2], counts[x * 4 + 3]];
      const total = ok + fail + info;
      if (total === 0) continue;
      const infoEnd = Math.ceil((height * info) / total);
      const failEnd = infoEnd + Math.ceil((height * fail) / total);
      for (let y = 0; y < height; y++) {
        raster.pixels[(top + y) * raster.width + x] = pixels[y < infoEnd ? 3 : y < failEnd ? 2 : 1];
      }
    }
  }

  // Every operation of a lane that is in view and passes the filters, with its ends on the axis.
  eachInLane(view, lane, visit) {
    const { axis, ops, filters } = view;
    const right = axis.left + axis.width;
    for (let at = Math.max(0, lastInLane(ops, lane, axis.from)); at < lane.length; at++) {
      const i = lane[at];
      if (ops.start[i] > axis.to) break;
      if (!filters.mask[i] || ops.end[i] < axis.from) continue;
      const from = Math.max(axis.x(ops.start[i]), axis.left);
      const until = ops.end[i] === Infinity ? this.openUntil(view, lane, at) : ops.end[i];
      visit(i, from, Math.min(Math.max(axis.x(until), from + 1), right));
    }
  }

  drawBars(view, top) {
    const { context, ops, colours } = view;
    const thickness = this.rowHeight > 4 ? this.rowHeight - 3 : this.rowHeight - 0.5;
    const last = [0, 0, 0, 0];
    ops.lanes.forEach((lane, row) => {
      const y = top + row * this.rowHeight + (this.rowHeight - thickness) / 2;
      this.nameLane(view, row, y + thickness / 2);
      last.fill(-1);
      this.eachInLane(view, lane, (i, from, to) => {
        if (to <= last[ops.outcome[i]]) return; // nothing of it would be seen
        last[ops.outcome[i]] = to + 0.2;
        context.fillStyle = colours[OUTCOMES[ops.outcome[i]]];
        this.bar(view, i, from, y, to - from, thickness);
      });
    });
    context.globalAlpha = 1;
  }

  bar(view, i, x, y, width, height) {
    const { context, ops, marked } = view;
    context.globalAlpha = ops.outcome[i] === 1 ? 0.8 : 1;
    const inset = ops.outcome[i] === 3 ? 0 : height > 6 ? 1 : 0;
    context.fillRect(x, y + inset, width > 4 ? width - 0.8 : width, height - 2 * inset);
    if (!marked.has(ops.invoke[i])) return;
    context.globalAlpha = 1;
    context.strokeStyle = view.colours.invalid;
    context.lineWidth = 2;
    context.strokeRect(x - 1.5, y - 1.5, width + 3, height + 3);
    context.lineWidth = 1;
  }

  // An operation that was never answered is drawn to the next of its lane.
  openUntil(view, lane, at) {
    return at + 1 < lane.length ? view.ops.start[lane[at + 1]] : view.run.end_ms;
  }

  nameLane(view, row, y) {
    const { context, axis, ops, colours } = view;
    const every = Math.ceil(12 / this.rowHeight);
    if (row % every !== 0) return;
    context.globalAlpha = 1;
    context.font = view.smallFont;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = colours.muted;
    context.fillText(ops.names.lane[row], axis.left - 8, y);
  }

  hit(view, x, y) {
    const { ops, axis, filters } = view;
    const lane = ops.lanes[Math.floor((y - this.top) / this.rowHeight)];
    if (lane === undefined) return -1;
    const at = lastInLane(ops, lane, axis.ms(x + 3));
    for (let back = at; back >= 0 && back > at - 40; back--) {
      const i = lane[back];
      const until = ops.end[i] === Infinity ? this.openUntil(view, lane, back) : ops.end[i];
      if (filters.mask[i] && axis.x(until) >= x - 3) return i;
    }
    return -1;
  }

  // Where an operation is drawn, for the hover layer.
  place(view, i) {
    const y = this.top + view.ops.lane[i] * this.rowHeight;
    const end = view.ops.end[i] === Infinity ? view.run.end_ms : view.ops.end[i];
    return [view.axis.x(view.ops.start[i]), y, Math.max(view.axis.x(end) - view.axis.x(view.ops.start[i]), 2), this.rowHeight];
  }
}
