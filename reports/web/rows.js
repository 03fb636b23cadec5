// Rows of a panel, of which only as many are drawn as fit; with more, a strip at the panel's right edge scrolls them as
// any box does, by wheel, touch and keys.

class Rows {
  constructor(amount, { most, least, tallest }, chart) {
    this.amount = amount;
    this.rowHeight = Math.min(tallest, Math.max(least, Math.floor(most / Math.max(amount, 1))));
    this.inSight = Math.min(amount, Math.floor(most / this.rowHeight));
    this.height = Math.max(this.inSight * this.rowHeight, 14);
    this.first = 0;
    if (this.inSight < amount) this.makeScroller(chart);
  }

  makeScroller(chart) {
    const filler = element("div");
    filler.style.height = `${this.amount * this.rowHeight}px`;
    this.scroller = element("div", { className: "row-scroller", tabIndex: 0, role: "region", ariaLabel: "Scroll the rows" }, filler);
    this.scroller.style.height = `${this.height}px`;
    this.scroller.addEventListener("scroll", () => {
      this.first = Math.min(Math.round(this.scroller.scrollTop / this.rowHeight), this.amount - this.inSight);
      this.onScroll();
    });
    chart.append(this.scroller);
  }

  onScroll() {}

  // "12 of 300 rows", where not all are in sight.
  get told() {
    return this.scroller === undefined ? "" : `${this.inSight} of ${this.amount} rows, scroll at the right; `;
  }

  placeAt(top) {
    this.top = top;
    if (this.scroller !== undefined) this.scroller.style.top = `${top}px`;
  }

  // Bring a row into sight.
  reveal(row) {
    if (this.scroller === undefined || this.isInSight(row)) return;
    this.scroller.scrollTop = Math.max(0, row - (this.inSight >> 1)) * this.rowHeight;
  }

  isInSight(row) {
    return row >= this.first && row < this.first + this.inSight;
  }

  y(row) {
    return this.top + (row - this.first) * this.rowHeight;
  }

  // The row at this height; -1 for none.
  at(y) {
    const row = this.first + Math.floor((y - this.top) / this.rowHeight);
    return y >= this.top && this.isInSight(row) ? row : -1;
  }

  // Names at the left, as many as there is room for.
  drawNames(view, names) {
    const { context, axis, colours } = view;
    const every = Math.ceil(12 / this.rowHeight);
    context.font = view.smallFont;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = colours.muted;
    for (let row = this.first; row < this.first + this.inSight; row += every) {
      context.fillText(fitted(context, names[row], axis.left - 12), axis.left - 8, this.y(row) + this.rowHeight / 2);
    }
  }
}

// A text cut to a width in pixels.
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return `${text.slice(0, length)}…`;
}
