// @ts-check
// The data of the page, and how its texts become elements. Texts enter the document only as text.

/**
 * @typedef {[text: number, first: number, n: number, peak: number, activation: number,
 *   paint: string, sample: number | null]} Span
 * @typedef {[feature: number, activation: number, text: number | null, peak: number | null,
 *   paint: Record<string, string>]} Credit
 * @typedef {[string, ...number[]]} Part  role, places of texts
 * @typedef {{id: number[], name: string[], status: string[], counts: number[][], max: number[],
 *   bars: (number[] | 0)[][], spans: Span[][], misses: number[][], method: string[],
 *   score: (number | null)[], doubtful: number[], grade: (string | null)[], reason: string[],
 *   topic: (number | null)[], near: [number, number | null, number][][],
 *   shift: (number | null)[], place: ([number, number] | null)[]}} Features
 * @typedef {{id: string[], kind: number[], parts: Part[][], tokens: (number | null)[],
 *   active: (number | null)[], credits: Credit[][], target: (number | null)[],
 *   facts: [string, string][][], reason: string[], place: ([number, number] | null)[]}} Samples
 * @typedef {{title: string, sets: string[], threshold: number, unpainted: string, link: string,
 *   texts: string[], tokens: number[][], features: Features,
 *   topics: [string, number, Record<string, number>, [number, number] | null][],
 *   samples: Samples}} Packed
 */

const STATUS_WORDS = {
  covered: "covered", filled: "filled", missing: "missing",
  extra: "not in the anchor", uncounted: "not relevant", active: "active",
};
const METHODS = {
  peaks: "from the words at its peaks, untested", terms: "from the words at its peaks",
  llm: "written by a language model", imported: "imported",
};

/** One report with what is looked up in it. */
class Store {
  /** @param {Packed} data */
  constructor(data) {
    this.data = data;
    this.features = data.features;
    this.samples = data.samples;
    let id = 0;
    this.ids = data.features.id.map((step) => (id += step));
    this.featureAt = new Map(this.ids.map((feature, at) => [feature, at]));
    this.sampleAt = new Map(data.samples.id.map((name, at) => [name, at]));
  }

  /** Samples that were written for a feature or activate it, by feature. */
  get samplesOf() {
    if (!this._samplesOf) {
      /** @type {Map<number, number[]>} */
      this._samplesOf = new Map();
      this.samples.credits.forEach((credits, at) => {
        const own = this.samples.target[at];
        const features = new Set(credits.map((credit) => credit[0]));
        if (own !== null) features.add(own);
        for (const feature of features) {
          const known = this._samplesOf.get(feature);
          known ? known.push(at) : this._samplesOf.set(feature, [at]);
        }
      });
    }
    return this._samplesOf;
  }

  /** Text to search, in lower case, for each feature; made once. */
  get featureIndex() {
    return (this._featureIndex ??= this.ids.map((id, at) => {
      const spans = this.features.spans[at].map((span) => this.slice(span[0], span[1], span[2]));
      const { name, reason } = this.features;
      return [id, name[at], reason[at], ...spans].join("\n").toLowerCase();
    }));
  }

  /** The same for each sample. */
  get sampleIndex() {
    return (this._sampleIndex ??= this.samples.id.map((id, at) => {
      const { reason } = this.samples;
      return [id, this.sampleText(at), reason[at]].join("\n").toLowerCase();
    }));
  }

  /** Tokens of a text as one string. @param {number} place @param {number} first @param {number} n */
  slice(place, first, n) {
    const text = this.data.texts[place], lengths = this.data.tokens[place];
    if (!n) return text;
    let start = 0, end = 0;
    for (let i = 0; i < first + n; i++) {
      if (i < first) start += lengths[i];
      end += lengths[i];
    }
    return text.slice(start, end);
  }

  /** All words of a sample. @param {number} at */
  sampleText(at) {
    return this.samples.parts[at]
      .map(([, ...texts]) => texts.map((place) => this.data.texts[place]).join(""))
      .join("\n");
  }

  /** @param {number} feature an id */
  nameOf(feature) {
    const at = this.featureAt.get(feature);
    return at === undefined ? "" : this.features.name[at];
  }
}

/** @returns {Promise<Packed[]>} */
async function readData() {
  const text = /** @type {HTMLElement} */ (document.getElementById("data")).textContent ?? "";
  const packed = atob(text), bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/**
 * An element. Children that are strings become text nodes, never markup.
 * @param {string} name @param {Record<string, any>} attributes @param {...any} children
 */
function h(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text"].includes(name);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return /** @type {HTMLElement} */ (element);
}

/** Controls and marks that change the direction of writing, made visible. @param {string} text */
function visible(text) {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, (c) =>
      String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (c) =>
      `⟨${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** A text of the data, blurred on sensitive pages. @param {string} text @param {string} more */
function quoted(text, more = "") {
  return h("bdi", { class: `t ${more}` }, visible(text));
}

/**
 * Tokens of a text with their colours.
 * @param {Store} store @param {number} place @param {number} first @param {number} n 0 for all
 * @param {string} paint a digit per token @param {number | null} peak
 */
function painted(store, place, first = 0, n = 0, paint = "", peak = null) {
  const text = store.data.texts[place], lengths = store.data.tokens[place];
  if (!lengths.length) return quoted(text, "text");
  const box = h("bdi", { class: "t text" });
  const end = n ? first + n : lengths.length;
  let at = 0, run = "", level = "0";
  const flush = () => {
    if (run) box.append(level === "0" ? run : h("span", { class: `p${level}` }, run));
    run = "";
  };
  for (let i = 0; i < end; at += lengths[i], i++) {
    if (i < first) continue;
    const token = text.slice(at, at + lengths[i]), now = paint[i - first] ?? "0";
    if (i === peak) {
      flush();
      const shown = token.trim() ? visible(token) : token.replace(/\n/g, "↵").replace(/ /g, "␣");
      box.append(h("mark", { class: `p${now === "0" ? 9 : now}` }, shown || "∅"));
      continue;
    }
    if (now !== level) flush();
    level = now;
    run += visible(token);
  }
  flush();
  return box;
}

/** @param {number} value */
const count = (value) => value.toLocaleString("en");
/** @param {number | null} value */
const number = (value) => (value === null ? "–" : value.toFixed(2));
