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
  const timeline = new Timeline(run, ops, details, choose);
  inspector = new Inspector(run, ops, details, timeline);
  const search = new Search(ops, details, inspector, timeline);
  listenForKeys(search, inspector);
  timeline.view.filters.mount(document.getElementById("filters"));
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => timeline.step(button.dataset.zoom));
  }
  const fromIntent = document.getElementById("from-intent");
  fromIntent.addEventListener("change", () => timeline.countLatency(fromIntent.checked));
  for (const swatch of document.querySelectorAll(".swatch")) {
    swatch.style.background = timeline.view.families.get(swatch.dataset.family) ?? "";
  }

  await new Links(ops, timeline, inspector, search).listen();
  document.body.dataset.ready = String(Math.round(performance.now()));
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(document.getElementById(button.dataset.copy).textContent, button));
}
start().catch((problem) => {
  const said = `The timeline cannot be shown: ${problem.message}. It needs a browser of 2023 or later; the rest of the page does not.`;
  document.getElementById("filters").replaceChildren(element("p", { className: "warning", textContent: said }));
  console.error(problem);
});
