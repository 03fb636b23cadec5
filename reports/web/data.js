// The run's data: script elements unpacked into columns and objects (the writing side is reports/embedding.py).

const NONE = 0xffffffff;
const OUTCOMES = ["", "ok", "fail", "info"];

// One piece of data: a value for JSON, an ArrayBuffer for binary.
async function load(id) {
  const inPage = document.getElementById(`data-${id}`);
  const [kinds, text] = inPage === null ? await loadSibling(id) : [inPage.dataset.kind, inPage.textContent];
  const [kind, packing] = kinds.split("+");
  if (packing !== "deflate") return JSON.parse(text);
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const unpacked = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
  return kind === "json" ? unpacked.json() : unpacked.arrayBuffer();
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

// Columns of operations, times in ms since the start; `order` lists the operations of each lane in time.
function operationColumns(described, buffer) {
  const types = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };
  const column = {};
  for (const [name, [size, place, length]] of Object.entries(described.places)) {
    column[name] = new types[size](buffer, place, length);
  }
  const count = described.count;
  const start = new Float64Array(count);
  const end = new Float64Array(count);
  let time_us = 0;
  for (let i = 0; i < count; i++) {
    time_us += column.gap_us[i];
    start[i] = time_us / 1e3;
    end[i] = column.length_us[i] === NONE ? Infinity : start[i] + column.length_us[i] / 1e3;
  }
  const lanes = described.names.lane.map(() => []);
  for (let i = 0; i < count; i++) lanes[column.lane[i]].push(i);
  return { ...column, count, start, end, names: described.names, lanes: lanes.map((lane) => Uint32Array.from(lane)) };
}

// The full records of operations, a chunk at a time, unpacked when first asked for.
class Details {
  constructor(chunk) {
    this.chunk = chunk;
    this.loaded = new Map();
  }

  // {invoke, completion, events, eventCount} of the operation at this place.
  async of(place) {
    const number = Math.floor(place / this.chunk);
    if (!this.loaded.has(number)) this.loaded.set(number, load(`details-${number}`));
    const [invoke, completion, events, eventCount] = (await this.loaded.get(number))[place % this.chunk];
    return { invoke, completion, events, eventCount };
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
