// Links into the page: #op=123 opens an operation by the index of either of its records, #t=12.3-15 shows these seconds,
// #q=text searches; &key=x (or #key=x alone) leaves what is of one key.

class Links {
  constructor(ops, timeline, inspector, search) {
    this.ops = ops;
    this.timeline = timeline;
    this.inspector = inspector;
    this.search = search;
  }

  // Follow the link that the page was opened with, and every later one.
  async listen() {
    addEventListener("hashchange", () => this.follow());
    await this.follow();
  }

  async follow() {
    const asked = new Map(location.hash.slice(1).split("&").map((part) => part.split("=")));
    if (asked.has("key")) this.timeline.view.filters.chooseKey(decoded(asked.get("key") ?? ""));
    if (asked.get("q")) await this.find(decoded(asked.get("q")));
    else if (asked.has("op")) await this.open(asked.get("op"));
    else if (asked.has("t") || asked.has("key")) this.show(asked.get("t"));
    document.body.dataset.followed = "yes";
  }

  async find(text) {
    this.search.input.value = text;
    await this.search.run(text);
  }

  async open(index) {
    const place = placeOfRecord(this.ops, Number(index || NaN));
    if (place < 0) {
      this.inspector.say(`Record ${visible(index ?? "")} is no client's operation: it is the nemesis's, or there is none of this index.`);
      return;
    }
    await this.inspector.open(place);
    this.timeline.reveal(place);
    document.getElementById("timeline").scrollIntoView();
  }

  show(range) {
    const [from, to] = range?.match(/^(-?[\d.]+)-(-?[\d.]+)$/)?.slice(1).map(Number) ?? [];
    if (from < to) this.timeline.show(from * 1e3, to * 1e3);
    if (from < to || range === undefined) document.getElementById("timeline").scrollIntoView();
  }
}

// A fragment's text; one that is no valid escape is taken as it stands.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
