// Space-time diagrams and cycles: what an operation says when the pointer or the focus rests on it, which others real
// time puts before and after it, and which arrow an explanation speaks of.

function liveDiagram(svg) {
  const bars = [...svg.querySelectorAll("a.op[data-facts]")];
  for (const bar of bars) {
    const title = bar.querySelector("title");
    const said = title.textContent;
    bar.setAttribute("aria-label", said);
    title.remove(); // ours says more
    const show = (event) => {
      order(bars, bar);
      const facts = JSON.parse(bar.dataset.facts).map(([name, words]) => [name, words]);
      showTip(pointOf(event, bar), element("b", { textContent: said }), rows(facts));
    };
    const hide = () => {
      for (const other of bars) other.classList.remove("earlier", "later", "meanwhile");
      hideTip();
    };
    bar.addEventListener("pointerenter", show);
    bar.addEventListener("focus", show);
    bar.addEventListener("pointerleave", hide);
    bar.addEventListener("blur", hide);
  }
}

// An operation that ended before this one began must come before it; only those that overlap may be ordered freely.
// An operation of unknown outcome has no end: nothing must come after it.
function order(bars, bar) {
  const [from, to] = [Number(bar.dataset.from), bar.classList.contains("info") ? Infinity : Number(bar.dataset.to)];
  for (const other of bars) {
    if (other === bar) continue;
    const end = other.classList.contains("info") ? Infinity : Number(other.dataset.to);
    const place = end < from ? "earlier" : Number(other.dataset.from) > to ? "later" : "meanwhile";
    other.classList.add(place);
  }
}

// Where the pointer is, or, when the focus came by keyboard, the middle of the bar.
function pointOf(event, bar) {
  if (event.clientX !== undefined && event.type.startsWith("pointer")) return event;
  const box = bar.getBoundingClientRect();
  return { clientX: box.left + box.width / 2, clientY: box.bottom };
}

// An arrow and its explanation light up together.
function liveCycle(cycle) {
  const parts = [...cycle.querySelectorAll("[data-edge]")];
  for (const part of parts) {
    const light = (on) => () => {
      for (const other of parts) other.classList.toggle("lit", on && other.dataset.edge === part.dataset.edge);
      cycle.classList.toggle("lighting", on);
    };
    for (const event of ["pointerenter", "focus"]) part.addEventListener(event, light(true));
    for (const event of ["pointerleave", "blur"]) part.addEventListener(event, light(false));
  }
}

document.querySelectorAll(".diagram svg").forEach(liveDiagram);
document.querySelectorAll(".cycle").forEach(liveCycle);
