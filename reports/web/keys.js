// Keys that work everywhere on the page but in a field that is being written in.

const KEYS = [
  ["/", "search"],
  ["n  p", "the next match, the one before"],
  ["j  k", "the next operation of the open one's lane, the one before"],
  ["←  →", "earlier, later (on the timeline)"],
  ["+  −", "zoom in, out (on the timeline)"],
  ["0", "the whole run (on the timeline)"],
  ["Esc", "close what is open at the right"],
  ["?", "these keys"],
];

function listenForKeys(search, inspector) {
  const actions = {
    "/": () => search.input.focus(),
    n: () => search.step(1),
    p: () => search.step(-1),
    j: () => inspector.stepInLane(1),
    k: () => inspector.stepInLane(-1),
    "?": () => inspector.show("Keys", rows(KEYS)),
  };
  addEventListener("keydown", (event) => {
    const isWriting = event.target.closest?.("input, select, textarea") !== null && event.target !== document;
    if (isWriting || event.ctrlKey || event.metaKey || event.altKey || actions[event.key] === undefined) return;
    event.preventDefault();
    actions[event.key]();
  });
}
