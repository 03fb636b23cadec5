// Start: unpack the data, make the timeline, follow the links.

async function start() {
  const run = await load("run");
  const ops = operationColumns(run.operations, await load("columns"));
  const details = new Details(run.chunk);
  let inspector = null;
  const choose = (place) => {
    timeline.choose(place);
    inspector.open(place);
    setFragment(`op=${ops.invoke[place]}`);
  };
  const timeline = new Timeline(run, ops, choose);
  inspector = new Inspector(run, ops, details, timeline);
  timeline.view.filters.mount(document.getElementById("filters"));
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => timeline.step(button.dataset.zoom));
  }
  const fromIntent = document.getElementById("from-intent");
  fromIntent.addEventListener("change", () => timeline.countLatency(fromIntent.checked));
  for (const swatch of document.querySelectorAll(".swatch")) {
    swatch.style.background = timeline.view.families.get(swatch.dataset.family) ?? "";
  }

  // #op=123 opens an operation by the index of either of its records; #t=12.3-15 shows these seconds.
  const follow = async () => {
    const [name, value] = location.hash.slice(1).split("=");
    if (name === "op") {
      const place = placeOfRecord(ops, Number(value));
      if (place < 0) {
        inspector.say(`Record ${value} is no client's operation: it is the nemesis's, or there is none of this index.`);
        return;
      }
      await inspector.open(place);
      timeline.reveal(place);
      document.getElementById("timeline").scrollIntoView();
    } else if (name === "t") {
      const [from, to] = (value ?? "").match(/^(-?[\d.]+)-(-?[\d.]+)$/)?.slice(1).map(Number) ?? [];
      if (!(from < to)) return;
      timeline.show(from * 1e3, to * 1e3);
      document.getElementById("timeline").scrollIntoView();
    }
  };
  addEventListener("hashchange", follow);
  await follow();
  document.body.dataset.ready = "yes";
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(document.getElementById(button.dataset.copy).textContent, button));
}
start().catch((problem) => {
  const said = `The timeline cannot be shown: ${problem.message}. It needs a browser of 2023 or later; the rest of the page does not.`;
  document.getElementById("filters").replaceChildren(element("p", { className: "warning", textContent: said }));
  console.error(problem);
});
