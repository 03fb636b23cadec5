// The run's data: script elements unpacked into columns and objects (the writing side is reports/embedding.py).

const NONE = 0xffffffff;
const OUTCOMES = ["", "ok", "fail", "info"];

// One piece of data: a value for JSON, an ArrayBuffer for binary.
async function load(id) {
  const inPage = document.getElementById(`data-${id}`);
  const [kinds, text] = inPage === null ? await loadSibling(id) : [inPage.dataset.kind, inPage.textContent];
  const [kind, packing] = kinds.split("+");
  if (packing !== "deflate") return JSON.parse(text);
  const packed = bytesOf(text);
  const unpacked = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
  return kind === "json" ? unpacked.json() : unpacked.arrayBuffer();
}

// The bytes of base64 text.
function bytesOf(text) {
  if (Uint8Array.fromBase64 !== undefined) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
  return bytes;
}

// The details of huge runs lie in scripts beside the page, each a call of splitvoteData.
function loadSibling(id) {
  const folder = document.body.dataset.siblings;
  if (folder === "") throw new Error(`no data called ${id} in this page`);
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    window.splitvoteData = (name, kind, text) => siblingsWaiting.get(name)?.([kind, text]);
    siblingsWaiting.set(id, resolve);
    script.src = `${folder}/${id}.js`;
    script.onerror = () => reject(new Error(`${script.src} cannot be loaded: keep the folder ${folder} beside the page`));
    document.head.append(script);
  });
}

const siblingsWaiting = new Map();

// Columns of operations, times in ms since the start; `lanes` lists the operations of each lane in time, and
// `reach[i]` is the latest completion of the operations up to i.
function operationColumns(described, buffer) {
  const types = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };
  const column = {};
  for (const [name, [size, place, length]] of Object.entries(described.places)) {
    column[name] = new types[size](buffer, place, length);
  }
  const { gap_us, length_us, invoke_gap, complete_after } = column;
  const count = described.count;
  const start = new Float64Array(count);
  const end = new Float64Array(count);
  const reach = new Float64Array(count);
  const invoke = new Uint32Array(count);
  const complete = new Uint32Array(count);
  let time_us = 0;
  let index = 0;
  let latest = 0;
  for (let i = 0; i < count; i++) {
    time_us += gap_us[i];
    index += invoke_gap[i];
    start[i] = time_us / 1e3;
    invoke[i] = index;
    if (length_us[i] === NONE) {
      end[i] = Infinity;
      complete[i] = NONE;
    } else {
      end[i] = start[i] + length_us[i] / 1e3;
      complete[i] = index + complete_after[i];
      if (end[i] > latest) latest = end[i];
    }
    reach[i] = latest;
  }
  const lanes = operationsByLane(column.lane, described.names.lane.length);
  return { ...column, count, start, end, reach, invoke, complete, names: described.names, lanes };
}

// The places of each lane's operations, in time: parts of one array.
function operationsByLane(lane, amount) {
  const next = new Uint32Array(amount + 1);
  for (let i = 0; i < lane.length; i++) next[lane[i] + 1]++;
  for (let at = 0; at < amount; at++) next[at + 1] += next[at];
  const edges = next.slice();
  const places = new Uint32Array(lane.length);
  for (let i = 0; i < lane.length; i++) places[next[lane[i]]++] = i;
  return Array.from({ length: amount }, (_, at) => places.subarray(edges[at], edges[at + 1]));
}

const CHUNKS_KEPT = 40;

// The full records of operations, a chunk at a time, unpacked when asked for; the last ones used are kept.
class Details {
  constructor(chunk) {
    this.chunk = chunk;
    this.loaded = new Map();
  }

  // {invoke, completion, events, eventCount} of the operation at this place.
  async of(place) {
    const [invoke, completion, events, eventCount] = (await this.numbered(Math.floor(place / this.chunk)))[place % this.chunk];
    return { invoke, completion, events, eventCount };
  }

  // A whole chunk, as it was written.
  numbered(number) {
    const known = this.loaded.get(number) ?? load(`details-${number}`);
    this.loaded.delete(number);
    this.loaded.set(number, known);
    if (this.loaded.size > CHUNKS_KEPT) this.loaded.delete(this.loaded.keys().next().value);
    known.catch(() => this.loaded.delete(number)); // not kept, so that it can be tried again
    return known;
  }
}

// The place of the operation that has a record of this index; -1 for none.
function placeOfRecord(ops, index) {
  let low = 0;
  let high = ops.count - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (ops.invoke[middle] === index) return middle;
    if (ops.invoke[middle] < index) low = middle + 1;
    else high = middle - 1;
  }
  return ops.complete.indexOf(index);
}

// Text in which nothing unseen remains: controls, direction marks and the like as escapes.
function visible(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, (character) => {
    const code = character.codePointAt(0);
    return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

function shown(value) {
  return visible(typeof value === "string" ? `"${value}"` : JSON.stringify(value));
}

function inMs(ms) {
  if (ms < 1) return `${(ms * 1e3).toFixed(0)} µs`;
  if (ms < 1e3) return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
  return `${(ms / 1e3).toFixed(2)} s`;
}

function inSeconds(ms, digits = 3) {
  return `${(ms / 1e3).toFixed(digits)} s`;
}

// A new element with properties and children; text never becomes markup.
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
