// Panels of the cluster as the sampler saw it: who each member takes for leader and in which term, revisions, our own lag.

// The last sample at or before ms; -1 before the first.
function sampleAt(members, ms) {
  const times = members.time_ms;
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// Every sample in view, at most two a pixel, with its ends on the axis.
function eachSample(view, visit) {
  const { axis, run } = view;
  const times = run.members.time_ms;
  let drawn = -Infinity;
  for (let at = Math.max(0, sampleAt(run.members, axis.from)); at < times.length && times[at] <= axis.to; at++) {
    const until = at + 1 < times.length ? times[at + 1] : run.end_ms;
    const from = Math.max(axis.x(times[at]), axis.left);
    const to = Math.max(from, Math.min(axis.x(until), axis.left + axis.width));
    if (to - drawn < 0.5) continue;
    visit(at, drawn === -Infinity ? from : Math.min(from, drawn), to);
    drawn = to;
  }
}

class LeadersPanel {
  constructor(view) {
    this.title = "Leader and term";
    this.unit = "as each member says";
    this.nodes = view.run.members.nodes;
    this.rowHeight = 18;
    this.height = this.nodes.length * this.rowHeight;
    this.shaded = true;
  }

  draw(view, top) {
    this.nodes.forEach((node, row) => this.drawMember(view, node, row, top + row * this.rowHeight));
  }

  drawMember(view, node, row, y) {
    const { context, axis, colours } = view;
    context.font = view.smallFont;
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.fillStyle = colours.muted;
    context.fillText(node, axis.left - 20, y + 9);
    context.fillStyle = NODE_COLOURS[row % NODE_COLOURS.length];
    context.fillRect(axis.left - 15, y + 4.5, 8, 8);
    const { leader, term } = view.run.members.by_node[node];
    const changes = [];
    let termBefore = null;
    eachSample(view, (at, from, to) => {
      this.segment(view, leader[at], row, from, to - from, y);
      if (term[at] === null || leader[at] === -2 || term[at] === termBefore) return;
      changes.push([from, `t${term[at]}`]);
      termBefore = term[at];
    });
    this.nameTerms(view, changes, y);
  }

  // A new term's number where it was first seen, unless the one before takes the room.
  nameTerms(view, changes, y) {
    const { context, colours } = view;
    let free = -Infinity;
    context.textAlign = "left";
    for (const [x, text] of changes) {
      if (x < free) continue;
      const width = context.measureText(text).width;
      context.fillStyle = colours.panel;
      context.fillRect(x, y + 2, width + 6, 13);
      context.fillStyle = colours.ink;
      context.fillText(text, x + 3, y + 9);
      free = x + width + 10;
    }
  }

  // The leader itself has a full bar, who follows it a thin one; no answer is an empty outline, no leader nothing.
  segment(view, leader, row, x, width, y) {
    const { context, colours } = view;
    if (leader >= 0) {
      context.fillStyle = NODE_COLOURS[leader % NODE_COLOURS.length];
      if (leader === row) context.fillRect(x, y + 2, width + 0.5, 13);
      else context.fillRect(x, y + 6.5, width + 0.5, 4);
    } else if (leader === -2) {
      context.fillStyle = colours.muted;
      context.globalAlpha = 0.25;
      for (let stripe = x; stripe < x + width; stripe += 4) context.fillRect(stripe, y + 5, 1.5, 7);
      context.globalAlpha = 1;
    }
  }
}

class RevisionsPanel {
  constructor(view) {
    this.title = "Revision";
    this.unit = "per member";
    this.nodes = view.run.members.nodes;
    this.height = 92;
    this.shaded = true;
  }

  draw(view, top, bottom) {
    const { context } = view;
    const [low, high] = this.range(view);
    if (high === -Infinity) return;
    const scale = linearScale(low, Math.max(high, low + 1), top + 6, bottom - 2);
    drawTicks(view, scale);
    this.nodes.forEach((node, row) => {
      context.strokeStyle = NODE_COLOURS[row % NODE_COLOURS.length];
      context.lineWidth = 1.3 + (this.nodes.length - row - 1) * 0.7;
      drawSteps(view, view.run.members.by_node[node].revision, scale.y);
    });
    context.lineWidth = 1;
  }

  range(view) {
    let low = Infinity;
    let high = -Infinity;
    eachSample(view, (at) => {
      for (const node of this.nodes) {
        const revision = view.run.members.by_node[node].revision[at];
        if (revision !== null) [low, high] = [Math.min(low, revision), Math.max(high, revision)];
      }
    });
    return [view.axis.isWhole ? 0 : low, high];
  }
}

// How far each node's clock was from ours, where the sampler measured it: offsets by node.
class ClocksPanel {
  constructor(view, title, offsets) {
    this.title = title;
    this.unit = "per node, ms";
    this.offsets = offsets;
    this.nodes = view.run.members.nodes.filter((node) => offsets[node] !== undefined);
    this.height = 64;
    this.shaded = true;
  }

  draw(view, top, bottom) {
    const { context, run } = view;
    const all = this.nodes.flatMap((node) => this.offsets[node].filter((offset) => offset !== null));
    const reach = all.reduce((most, offset) => Math.max(most, Math.abs(offset)), 1);
    const y = (offset) => (top + bottom) / 2 - (offset / reach) * ((bottom - top) / 2 - 5);
    drawTicks(view, { y, ticks: [-reach, 0, reach].map((offset) => [offset, `${Math.round(offset)} ms`]) });
    for (const node of this.nodes) {
      context.strokeStyle = NODE_COLOURS[run.members.nodes.indexOf(node) % NODE_COLOURS.length];
      context.lineWidth = 1.6;
      drawSteps(view, this.offsets[node], y);
    }
    context.lineWidth = 1;
  }
}

// One value a sample as a line of steps, with gaps where there is none.
function drawSteps(view, values, y) {
  const { context } = view;
  context.beginPath();
  let open = false;
  eachSample(view, (at, from, to) => {
    const value = values[at];
    if (value === null) {
      open = false;
      return;
    }
    if (open) context.lineTo(from, y(value));
    else context.moveTo(from, y(value));
    context.lineTo(to, y(value));
    open = true;
  });
  context.stroke();
}

class LagPanel {
  title = "Our own lag";
  unit = "event loop";
  height = 46;
  shaded = true;

  draw(view, top, bottom) {
    const { context, colours } = view;
    const lags = view.run.members.lag_ms;
    const scale = linearScale(0, Math.max(10, lags.reduce((a, b) => Math.max(a, b), 0)), top + 4, bottom - 1);
    drawTicks(view, { ...scale, ticks: [scale.ticks[0], scale.ticks.at(-1)] }, (text) => `${text} ms`);
    context.fillStyle = colours.muted;
    eachSample(view, (at, from, to) => {
      const y = scale.y(lags[at]);
      context.fillRect(from, y, Math.max(to - from - 0.5, 1), bottom - 1 - y);
    });
  }
}

// What the members said last before this moment, as rows [node, words].
function membersSay(view, ms) {
  const { members } = view.run;
  const at = sampleAt(members, ms);
  if (at < 0) return [];
  return members.nodes.map((node) => {
    const { leader, term, revision } = members.by_node[node];
    const offset = members.clock_ms[node]?.[at] ?? null;
    const clock = offset === null ? "" : `, clock ${offset >= 0 ? "+" : ""}${offset.toFixed(1)} ms`;
    if (leader[at] === -2) return [node, "no answer"];
    const led = leader[at] === -1 ? "no leader" : members.nodes[leader[at]] === node ? "leads" : `follows ${members.nodes[leader[at]]}`;
    return [node, `${led}, term ${term[at] ?? "?"}, revision ${revision[at]?.toLocaleString("en") ?? "?"}${clock}`];
  });
}
