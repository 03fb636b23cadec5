// Scales: the one time axis all panels share, and vertical scales with ticks at round numbers.

// The visible stretch of the run, in ms; all panels draw by it.
class TimeAxis {
  constructor(end_ms) {
    this.full = [0, end_ms];
    this.from = 0;
    this.to = end_ms;
    this.left = 0;
    this.width = 1;
  }

  x(ms) {
    return this.left + ((ms - this.from) / (this.to - this.from)) * this.width;
  }

  ms(x) {
    return this.from + ((x - this.left) / this.width) * (this.to - this.from);
  }

  // Show from..to, kept within the run and no narrower than 0.05 ms.
  show(from, to) {
    const [first, last] = this.full;
    const length = Math.min(Math.max(to - from, 0.05), last - first);
    const start = Math.min(Math.max((from + to - length) / 2, first), last - length);
    this.from = start;
    this.to = start + length;
  }

  zoom(factor, around_ms = (this.from + this.to) / 2) {
    this.show(around_ms - (around_ms - this.from) * factor, around_ms + (this.to - around_ms) * factor);
  }

  // Move by ms without changing how much is shown.
  move(ms) {
    const length = this.to - this.from;
    const from = Math.min(Math.max(this.from + ms, this.full[0]), this.full[1] - length);
    this.from = from;
    this.to = from + length;
  }

  get isWhole() {
    return this.from <= this.full[0] && this.to >= this.full[1];
  }

  ticks() {
    const step = roundStep((this.to - this.from) / Math.max(3, this.width / 110));
    const digits = Math.max(0, Math.ceil(-Math.log10(step / 1e3) - 1e-9));
    const found = [];
    for (let ms = Math.ceil(this.from / step) * step; ms <= this.to; ms += step) {
      found.push([ms, `${(ms / 1e3).toFixed(digits)} s`]);
    }
    return found;
  }
}

// 1, 2 or 5 times a power of ten, at least as long as asked.
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

// A linear scale from 0 (or low) up to at least high, in pixels from bottom to top.
function linearScale(low, high, top, bottom) {
  const step = Math.max(1, roundStep((high - low || 1) / 3)); // all that is shown so is counted
  const first = low === 0 ? 0 : Math.floor(low / step) * step;
  const last = Math.max(first + step, Math.ceil(high / step) * step);
  const y = (value) => bottom - ((value - first) / (last - first)) * (bottom - top);
  const ticks = [];
  for (let value = first; value <= last + step / 2; value += step) ticks.push([value, value.toLocaleString("en")]);
  return { y, ticks };
}

// The whole decades around a range of ms, as exponents.
function decadesOf([least, most]) {
  const low = Math.floor(Math.log10(Math.max(least, 1e-3)));
  return { low, high: Math.max(low + 1, Math.ceil(Math.log10(Math.max(most, 1e-3)))) };
}

// A logarithmic scale over whole decades of ms.
function logScale(least, most, top, bottom) {
  const { low, high } = decadesOf([least, most]);
  const y = (value) => bottom - ((Math.max(Math.log10(Math.max(value, 1e-3)), low) - low) / (high - low)) * (bottom - top);
  const ticks = [];
  for (let decade = low; decade <= high; decade++) ticks.push([10 ** decade, inRoundMs(10 ** decade)]);
  return { y, ticks };
}

function inRoundMs(ms) {
  if (ms >= 1e3) return `${ms / 1e3} s`;
  return ms >= 1 ? `${ms} ms` : `${Math.round(ms * 1e3)} µs`;
}
