// The values of one key in time, once the filter names a single key: what was written and what was read, each value in
// a colour of its own, so that a read of an older value stands out from the writes above it.

const MOST_VALUES = 1_500;
const VALUE_LANES = 3;

class KeyValuesPanel {
  title = "Values of the key";
  shaded = true;
  rowHeight = 16;

  constructor(view, details, redraw) {
    this.view = view;
    this.details = details;
    this.redraw = redraw;
    this.height = VALUE_LANES * 2 * this.rowHeight + 6;
    this.answers = new Map();
    this.loading = null;
  }

  get unit() {
    return this.said ?? "writes above, reads below; a colour a value";
  }

  draw(view, top) {
    this.top = top;
    this.placed = [];
    const places = this.inView(view);
    this.said = places === null ? `more than ${MOST_VALUES.toLocaleString("en")} operations in view: zoom in to see the values` : undefined;
    if (places === null) return;
    const missing = places.filter((place) => !this.answers.has(place));
    if (missing.length > 0) {
      this.said = "loading …";
      this.load(missing);
    }
    const free = [new Array(VALUE_LANES).fill(-Infinity), new Array(VALUE_LANES).fill(-Infinity)];
    for (const place of places) this.drawOperation(view, place, free);
    view.context.globalAlpha = 1;
    this.name(view);
  }

  // The key's operations in view that pass the filters; null when there are too many.
  inView(view) {
    const { ops, axis, filters } = view;
    const places = [];
    const last = firstFrom(ops, axis.to);
    const first = Math.min(firstAtLeast(ops.reach, axis.from), firstFrom(ops, axis.from));
    for (let i = first; i < last; i++) {
      if (filters.mask[i] === 0 || ops.end[i] < axis.from) continue;
      places.push(i);
      if (places.length > MOST_VALUES) return null;
    }
    return places;
  }

  // Unpack what is missing, one request at a time, and draw again.
  async load(places) {
    if (this.loading !== null) return;
    this.loading = places;
    try {
      for (const place of places) {
        const { invoke, completion } = await this.details.of(place);
        this.answers.set(place, valueOf(invoke, completion));
      }
    } catch (problem) {
      for (const place of places) if (!this.answers.has(place)) this.answers.set(place, { text: problem.message, writes: false, reads: false });
    } finally {
      this.loading = null;
      this.redraw();
    }
  }

  drawOperation(view, place, free) {
    const found = this.answers.get(place);
    if (found === undefined) return;
    const { axis, ops, run, context, colours } = view;
    const outcome = OUTCOMES[ops.outcome[place]];
    const from = clampedX(axis, ops.start[place]);
    const to = Math.max(clampedX(axis, Math.min(ops.end[place], run.end_ms)), from + 2);
    const half = found.writes ? 0 : 1;
    const lane = Math.max(0, free[half].findIndex((until) => until <= from));
    free[half][lane] = to + 1;
    const y = this.top + (half * VALUE_LANES + lane) * this.rowHeight + half * 4;
    const box = [from, y + 1, to - from, this.rowHeight - 3];
    context.globalAlpha = outcome === "ok" ? 0.9 : 0.35;
    context.fillStyle = found.text === null || outcome === "fail" ? colours.line : valueColour(found.text, view.dark);
    context.fillRect(...box);
    if (outcome !== "ok") {
      context.globalAlpha = 1;
      context.strokeStyle = colours[outcome];
      context.setLineDash([3, 2]);
      context.strokeRect(box[0] + 0.5, box[1] + 0.5, Math.max(box[2] - 1, 1), box[3] - 1);
      context.setLineDash([]);
    }
    this.placed.push([place, box]);
    if (to - from < 16 || found.text === null) return;
    context.globalAlpha = 1;
    context.font = view.tinyFont;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = outcome === "ok" ? "#10151b" : colours.ink;
    context.fillText(fitted(context, found.text, to - from - 6), from + 3, y + this.rowHeight / 2);
  }

  name(view) {
    const { context, axis, colours } = view;
    context.font = view.smallFont;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = colours.muted;
    context.fillText("written", axis.left - 8, this.top + (VALUE_LANES * this.rowHeight) / 2);
    context.fillText("read", axis.left - 8, this.top + 1.5 * VALUE_LANES * this.rowHeight + 4);
  }

  hit(_, x, y) {
    const found = this.placed?.findLast(([, [left, top, width, height]]) => x >= left - 2 && x <= left + width + 2 && y >= top && y <= top + height);
    return found === undefined ? -1 : found[0];
  }
}

// What an operation wrote or read: a read has a value only in its answer; of a compare-and-set the new value counts.
function valueOf(invoke, completion) {
  const asked = invoke.value ?? null;
  const writes = asked !== null;
  const value = writes ? (Array.isArray(asked) && asked.length === 2 ? asked[1] : asked) : (completion?.value ?? null);
  return { writes, text: value === null ? null : visible(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 60) };
}

// The same colour for the same value wherever it is drawn.
function valueColour(text, dark) {
  let hash = 2166136261;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619) >>> 0;
  return `hsl(${hash % 360} ${dark ? 55 : 62}% ${dark ? 66 : 74}%)`;
}
