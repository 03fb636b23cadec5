// Views of a workload's own: bars in rows (who holds a lock, how long a lease lasts) and lines over revisions (how far
// each watcher is), as reports/views.py lays them out, on the shared time axis.

const TONES = { truth: "valid", belief: "accent", idle: "muted", bad: "invalid", warn: "info", ok: "ok" };

// Bars in rows; marks are moments on a row.
class BarsPanel {
  constructor(described, chart) {
    this.title = described.title;
    this.described = described.rows;
    this.rows = new Rows(described.rows.length, { most: 260, least: 12, tallest: 16 }, chart);
    this.unit = this.rows.told + described.unit;
    this.height = this.rows.height;
    this.names = described.rows.map((row) => visible(row.name));
    this.shaded = true;
  }

  draw(view, top) {
    this.rows.placeAt(top);
    this.rows.drawNames(view, this.names);
    for (let row = this.rows.first; row < this.rows.first + this.rows.inSight; row++) {
      for (const bar of this.described[row].bars) this.bar(view, bar, this.rows.y(row));
      for (const mark of this.described[row].marks) this.mark(view, mark, this.rows.y(row));
    }
    view.context.globalAlpha = 1;
  }

  bar(view, bar, y) {
    const { context, axis, colours, run } = view;
    const [from, to] = [clampedX(axis, bar.from_ms), clampedX(axis, bar.to_ms ?? run.end_ms)];
    if (to <= axis.left || from >= axis.left + axis.width) return;
    const height = this.rows.rowHeight - 3;
    context.globalAlpha = bar.faint ? 0.28 : 0.82;
    context.fillStyle = colours[TONES[bar.tone]] ?? colours.muted;
    context.fillRect(from, y + 1, Math.max(to - from - 0.6, 1), height);
    if (to - from < 26 || bar.text === "") return;
    context.globalAlpha = 1;
    context.font = view.tinyFont;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = bar.faint ? colours.ink : colours.onbar;
    context.fillText(fitted(context, visible(bar.text), to - from - 8), from + 4, y + 1.5 + height / 2);
  }

  mark(view, mark, y) {
    const { context, axis, colours } = view;
    const x = axis.x(mark.at_ms);
    if (x < axis.left || x > axis.left + axis.width) return;
    context.globalAlpha = 1;
    context.fillStyle = colours[TONES[mark.tone]] ?? colours.ink;
    context.fillRect(x - 0.75, y + 1, 1.5, this.rows.rowHeight - 3);
  }

  // What lies under the pointer: a mark before the bar it lies on, later bars before earlier ones.
  itemAt(view, x, y) {
    const row = this.described[this.rows.at(y)];
    if (row === undefined) return undefined;
    const { axis, run } = view;
    const mark = row.marks.findLast((each) => Math.abs(axis.x(each.at_ms) - x) <= 3);
    return mark ?? row.bars.findLast((bar) => axis.x(bar.from_ms) - 2 <= x && x <= axis.x(bar.to_ms ?? run.end_ms) + 2);
  }

  hit(view, x, y) {
    const item = this.itemAt(view, x, y);
    return item === undefined || item.op === null ? -1 : placeOfRecord(view.ops, item.op);
  }

  describe(view, x, y) {
    const item = this.itemAt(view, x, y);
    if (item === undefined) return undefined;
    const when = item.at_ms === undefined ? `${inSeconds(item.from_ms)} to ${item.to_ms === null ? "the end" : inSeconds(item.to_ms)}` : inSeconds(item.at_ms);
    return [element("b", { textContent: visible(item.text) || this.title }), element("div", { textContent: when }), element("div", { textContent: visible(item.note) })];
  }
}

// Lines of a value over time: the first is the truth, the others are held against it.
class LinesPanel {
  height = 190;
  shaded = true;

  constructor(described) {
    this.title = described.title;
    this.unit = described.unit;
    this.lines = described.lines;
  }

  draw(view, top, bottom) {
    const { context, axis, colours } = view;
    const [low, high] = this.range(axis);
    if (high === -Infinity) return;
    this.scale = linearScale(low, Math.max(high, low + 1), top + 6, bottom - 2);
    drawTicks(view, this.scale);
    context.beginPath();
    context.rect(axis.left, top, axis.width, bottom - top);
    context.clip();
    this.lines.forEach((line, place) => {
      context.strokeStyle = place === 0 ? colours.ink : NODE_COLOURS[place % NODE_COLOURS.length];
      context.lineWidth = place === 0 ? 2 : 1.3;
      context.beginPath();
      for (const piece of line.pieces) {
        piece.forEach(([ms, value], at) => {
          if (at === 0) context.moveTo(axis.x(ms), this.scale.y(value));
          else {
            context.lineTo(axis.x(ms), this.scale.y(piece[at - 1][1]));
            context.lineTo(axis.x(ms), this.scale.y(value));
          }
        });
      }
      context.stroke();
    });
    context.lineWidth = 1;
  }

  range(axis) {
    let [low, high] = [Infinity, -Infinity];
    for (const line of this.lines) {
      for (const piece of line.pieces) {
        for (const [ms, value] of piece) {
          if (ms < axis.from || ms > axis.to) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    }
    return [axis.isWhole ? 0 : low, high];
  }

  // The point next to the pointer.
  nearest(view, x, y) {
    let best;
    let nearest = 10 ** 2;
    if (this.scale === undefined) return undefined;
    for (const line of this.lines) {
      for (const piece of line.pieces) {
        for (const point of piece) {
          const distance = (view.axis.x(point[0]) - x) ** 2 + (this.scale.y(point[1]) - y) ** 2;
          if (distance < nearest) [best, nearest] = [{ line, point }, distance];
        }
      }
    }
    return best;
  }

  hit(view, x, y) {
    const op = this.nearest(view, x, y)?.line.op ?? null;
    return op === null ? -1 : placeOfRecord(view.ops, op);
  }

  describe(view, x, y) {
    const found = this.nearest(view, x, y);
    if (found === undefined) return undefined;
    const { line, point } = found;
    return [element("b", { textContent: visible(line.name) }), element("div", { textContent: `${inSeconds(point[0])}: revision ${point[1].toLocaleString("en")}` }), element("div", { textContent: visible(line.note) })];
  }
}

// A panel of the kind that a view asks for.
function panelOfView(described, chart) {
  return described.kind === "lines" ? new LinesPanel(described) : new BarsPanel(described, chart);
}
