// The strip on top of the timeline: the whole run in small, with what is shown framed, and the time ticks of what is
// shown below it.

class Overview {
  constructor(view) {
    this.view = view;
  }

  draw(height) {
    const { context, colours, axis } = this.view;
    const { from, to, left, width } = axis;
    const x = (ms) => left + (ms / this.view.run.end_ms) * width;
    context.drawImage(this.picture(height), left, 0, width, height);
    context.fillStyle = colours.panel;
    context.globalAlpha = 0.65;
    context.fillRect(left, 0, x(from) - left, height);
    context.fillRect(x(to), 0, left + width - x(to), height);
    context.globalAlpha = 1;
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    context.strokeRect(x(from) + 0.5, 1, Math.max(x(to) - x(from) - 1, 2), height - 2);
    context.lineWidth = 1;
    context.font = this.view.smallFont;
    context.fillStyle = colours.muted;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText("whole run", left - 8, height / 2);
    context.textAlign = "center";
    for (const [ms, text] of axis.ticks()) context.fillText(text, axis.x(ms), height + 14);
  }

  // The part that does not move, drawn once for a width, a theme and a state of the filters.
  picture(height) {
    const { axis, colours, filters } = this.view;
    const drawn = `${axis.width} ${colours.sunk} ${filters.version}`;
    if (this.drawn === drawn) return this.canvas;
    this.drawn = drawn;
    this.canvas = new OffscreenCanvas(Math.ceil(axis.width * devicePixelRatio), Math.ceil(height * devicePixelRatio));
    const context = this.canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    this.paint(context, axis.width, height);
    return this.canvas;
  }

  paint(context, width, height) {
    const { colours, ops, run, families, filters } = this.view;
    const x = (ms) => (ms / run.end_ms) * width;
    context.fillStyle = colours.sunk;
    context.fillRect(0, 2, width, height - 4);
    context.globalAlpha = 0.28;
    for (const fault of run.faults) {
      context.fillStyle = families.get(fault.family);
      context.fillRect(x(fault.start_ms), 2, Math.max(1, x(fault.end_ms ?? run.end_ms) - x(fault.start_ms)), height - 4);
    }
    context.globalAlpha = 0.75;
    context.fillStyle = colours.ok;
    const bins = new Float64Array(Math.max(1, Math.floor(width / 2)));
    for (let i = 0; i < ops.count; i++) {
      if (filters.mask[i] !== 0 && ops.outcome[i] === 1) bins[Math.min(bins.length - 1, Math.floor((ops.end[i] / run.end_ms) * bins.length))]++;
    }
    const peak = bins.reduce((a, b) => Math.max(a, b), 1);
    bins.forEach((amount, place) => {
      const tall = (amount / peak) * (height - 8);
      context.fillRect(place * 2, height - 2 - tall, 1.6, tall);
    });
  }
}
