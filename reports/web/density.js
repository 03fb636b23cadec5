// Densities: where how many operations of each outcome lie, counted once in fine bins of time and then halved again
// and again, so that a view of a million operations costs no more than its pixels.

const OUTCOME_COUNT = 3;
const MOST_CELLS = 1 << 20;
const FEWEST_FOR_DENSITY = 20_000;

// Counts by row, bin of time and outcome (ok, fail, info as 0, 1, 2).
class Density {
  constructor(rows, end_ms) {
    this.rows = rows;
    this.end_ms = end_ms;
    this.bins = 1 << Math.max(6, Math.floor(Math.log2(MOST_CELLS / Math.max(rows, 1))));
    this.levels = [new Uint32Array(rows * this.bins * OUTCOME_COUNT)];
  }

  bin(ms) {
    return Math.min(Math.max(Math.floor((ms / this.end_ms) * this.bins), 0), this.bins - 1);
  }

  // Count one operation of an outcome's code in every bin between these times.
  add(row, from_ms, to_ms, outcome) {
    const counts = this.levels[0];
    const base = row * this.bins;
    const last = this.bin(to_ms);
    for (let bin = this.bin(from_ms); bin <= last; bin++) counts[(base + bin) * OUTCOME_COUNT + outcome - 1]++;
  }

  // Add up the coarser levels; nothing may be added any more.
  finish() {
    let finer = this.levels[0];
    for (let bins = this.bins >> 1; bins >= 64; bins >>= 1) {
      const counts = new Uint32Array(this.rows * bins * OUTCOME_COUNT);
      for (let cell = 0; cell < this.rows * bins; cell++) {
        const at = cell * OUTCOME_COUNT;
        const from = at * 2;
        counts[at] = finer[from] + finer[from + 3];
        counts[at + 1] = finer[from + 1] + finer[from + 4];
        counts[at + 2] = finer[from + 2] + finer[from + 5];
      }
      this.levels.push(counts);
      finer = counts;
    }
    return this;
  }

  // The coarsest level whose bins are no wider than a pixel; -1 where even the finest are.
  levelFor(axis) {
    const perPixel = ((axis.to - axis.from) / axis.width / this.end_ms) * this.bins;
    return perPixel < 1 ? -1 : Math.min(Math.floor(Math.log2(perPixel)), this.levels.length - 1);
  }

  // Fill the columns of a view from a level, its rows from the first one asked for on.
  fill(columns, axis, level, firstRow = 0) {
    const counts = this.levels[level];
    const bins = this.bins >> level;
    const { width, rows } = columns;
    const edges = this.edges(axis, width, bins);
    const target = columns.counts;
    for (let row = 0; row < rows; row++) {
      const base = (firstRow + row) * bins;
      for (let x = 0; x < width; x++) {
        const into = (row * width + x) * OUTCOME_COUNT;
        const last = Math.max(edges[x + 1], edges[x] + 1);
        for (let bin = edges[x]; bin < last; bin++) {
          const at = (base + bin) * OUTCOME_COUNT;
          target[into] += counts[at];
          target[into + 1] += counts[at + 1];
          target[into + 2] += counts[at + 2];
        }
      }
    }
  }

  // The bin in which every pixel of a view begins, and the one in which it ends.
  edges(axis, width, bins) {
    const perPixel = ((axis.to - axis.from) / axis.width / this.end_ms) * bins;
    const first = (axis.from / this.end_ms) * bins;
    return Uint32Array.from({ length: width + 1 }, (_, x) => Math.min(Math.floor(first + x * perPixel), bins - 1));
  }
}

// What a view shows: counts by row, pixel and outcome, the array kept from frame to frame.
class Columns {
  reset(rows, width) {
    const size = rows * width * OUTCOME_COUNT;
    if (this.counts?.length !== size) this.counts = new Uint32Array(size);
    else this.counts.fill(0);
    this.rows = rows;
    this.width = width;
    return this;
  }
}

// Completions by outcome as running totals over fine bins: how many there were before any moment.
class Completions {
  constructor(ops, mask, end_ms) {
    this.end_ms = end_ms;
    this.bins = 1 << 16;
    this.totals = Array.from({ length: OUTCOME_COUNT + 1 }, () => new Float64Array(this.bins + 1));
    const perMs = this.bins / end_ms;
    for (let i = 0; i < ops.count; i++) {
      if (mask[i] === 0 || ops.end[i] === Infinity) continue;
      this.totals[ops.outcome[i]][Math.min(Math.floor(ops.end[i] * perMs), this.bins - 1) + 1]++;
    }
    for (const totals of this.totals) for (let bin = 0; bin < this.bins; bin++) totals[bin + 1] += totals[bin];
  }

  get bin_ms() {
    return this.end_ms / this.bins;
  }

  before(outcome, ms) {
    const at = Math.min(Math.max((ms / this.end_ms) * this.bins, 0), this.bins);
    const bin = Math.min(Math.floor(at), this.bins - 1);
    const totals = this.totals[outcome];
    return totals[bin] + (totals[bin + 1] - totals[bin]) * (at - bin);
  }
}

// First operation that starts at or after ms.
function firstFrom(ops, ms) {
  return firstAtLeast(ops.start, ms);
}

// First place in an ascending array that holds at least this.
function firstAtLeast(ascending, least) {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

// How many operations begin within what is shown.
function operationsInView(view) {
  return firstFrom(view.ops, view.axis.to) - firstFrom(view.ops, view.axis.from);
}
