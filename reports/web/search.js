// Search: every operation whose records hold a text, chunk after chunk, so that a huge run shows its first matches at
// once; the matches are listed at the right and framed on the timeline.

const MOST_MATCHES = 300;

class Search {
  constructor(ops, details, inspector, timeline) {
    this.ops = ops;
    this.details = details;
    this.inspector = inspector;
    this.timeline = timeline;
    this.matches = [];
    this.at = -1;
    this.input = document.getElementById("search");
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (this.input.value === this.wanted && this.matches.length > 0) this.step(event.shiftKey ? -1 : 1);
      else this.run(this.input.value);
    });
    this.input.addEventListener("search", () => {
      if (this.input.value === "") this.clear();
    });
  }

  clear() {
    this.wanted = "";
    this.inspector.onMatches = undefined;
    this.found([]);
  }

  found(places) {
    this.matches = places;
    this.timeline.view.found = places;
    this.timeline.redraw();
  }

  // Look for a text; a number is the index of a record, too.
  async run(text) {
    this.wanted = text;
    this.at = -1;
    if (text === "") {
      this.clear();
      return;
    }
    const list = element("ol", { className: "matches" });
    const state = element("p", { className: "note", id: "search-state", ariaLive: "polite" });
    const show = () => this.inspector.show(`Search: ${visible(text).slice(0, 80)}`, state, list);
    show();
    this.inspector.onMatches = show;
    const places = [];
    const add = (place) => {
      if (places.includes(place) || places.length >= MOST_MATCHES) return;
      places.push(place);
      list.append(this.item(place, places.length - 1));
    };
    const numbered = /^\d+$/.test(text) ? placeOfRecord(this.ops, Number(text)) : -1;
    if (numbered >= 0) add(numbered);
    const isComplete = await this.scan(text, add, (share) => {
      setText(state, `${places.length} found in ${Math.round(share * 100)} % of the run …`);
      this.found(places);
      return this.wanted === text && places.length < MOST_MATCHES;
    });
    if (this.wanted !== text) return; // another search has begun
    const more = isComplete ? "" : `; the first ${MOST_MATCHES} are listed`;
    setText(state, places.length === 0 ? "No operation's records hold this text." : `${places.length} ${places.length === 1 ? "operation" : "operations"} found${more}. n and p lead to the next and the one before.`);
    state.dataset.done = "yes";
    this.found(places);
  }

  // Visit every chunk; `note` is told how far it is and says whether to go on.
  async scan(text, add, note) {
    const wanted = [text, JSON.stringify(text).slice(1, -1)].map((form) => form.toLowerCase());
    const { chunk } = this.details;
    for (let first = 0; first < this.ops.count; first += chunk) {
      const records = await this.details.numbered(first / chunk);
      records.forEach((record, at) => {
        const written = JSON.stringify(record).toLowerCase();
        if (wanted.some((form) => written.includes(form))) add(first + at);
      });
      if (!note(Math.min(1, (first + chunk) / this.ops.count))) return false;
    }
    return true;
  }

  item(place, at) {
    const { ops } = this;
    const link = element("a", { href: `#op=${ops.invoke[place]}`, textContent: `op ${ops.invoke[place]}` });
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.go(at);
    });
    const words = `${nameOfOperation(ops, place)}, ${OUTCOMES[ops.outcome[place]]}, ${inSeconds(ops.start[place])}`;
    return element("li", {}, link, ` ${words}`);
  }

  step(by) {
    if (this.matches.length === 0) return;
    this.go((this.at + by + this.matches.length) % this.matches.length);
  }

  go(at) {
    this.at = at;
    this.timeline.reveal(this.matches[at]);
    this.timeline.onChoose(this.matches[at]);
  }
}
