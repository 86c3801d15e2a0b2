// @ts-check
// The map: points on a canvas, a region that can be marked, and the same as a table.

const GRID = 4;

class PointMap {
  /** @param {(what: string, marked: number[] | null) => void} mark
   *  @param {(what: string, at: number) => void} open */
  constructor(mark, open) {
    this.canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("map"));
    this.tip = /** @type {HTMLElement} */ (document.getElementById("map-tip"));
    this.mark = mark;
    this.open = open;
    this.what = "features";
    /** @type {{at: number, x: number, y: number, kind: string}[]} */
    this.points = [];
    /** @type {[number, number, number, number] | null} */
    this.region = null;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
  }

  /** @param {Store} store @param {string} what `features` or `samples` */
  show(store, what) {
    this.store = store;
    this.what = what;
    this.region = null;
    const of = what === "features" ? store.features : store.samples;
    const kindOf = what === "features"
      ? (/** @type {number} */ at) => store.features.status[at]
      : (/** @type {number} */ at) => store.data.sets[store.samples.kind[at]];
    this.points = of.place.flatMap((place, at) =>
      place ? [{ at, x: place[0] / 1000, y: place[1] / 1000, kind: kindOf(at) }] : []);
    const rank = ["anchor", "covered", "active", "extra", "uncounted", "seed", "missing", "filled"];
    this.points.sort((a, b) => rank.indexOf(a.kind) - rank.indexOf(b.kind));
    this.key();
    this.draw();
    this.table();
  }

  key() {
    const kinds = [...new Set(this.points.map((point) => point.kind))];
    const prefix = this.what === "features" ? "is" : "of";
    document.getElementById("map-key")?.replaceChildren(...kinds.map((kind) => {
      const n = this.points.filter((point) => point.kind === kind).length;
      const words = STATUS_WORDS[/** @type {keyof STATUS_WORDS} */ (kind)] ?? kind;
      return h("li", { class: `${prefix}-${kind}` }, `${words}: ${count(n)}`);
    }));
  }

  /** Colours of the style sheet, as the canvas wants them. */
  colours() {
    const probe = h("i", { class: "offscreen" });
    this.canvas.parentElement?.append(probe);
    const read = (/** @type {string} */ name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const found = Object.fromEntries([...new Set(this.points.map((p) => p.kind)), "ink", "panel",
      "link"].map((name) => [name, read(name)]));
    probe.remove();
    return found;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.canvas.getContext("2d");
    if (!width || !context) return;
    const scale = devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    context.scale(scale, scale);
    const colour = this.colours(), size = this.points.length > 4000 ? 1.6 : 2.4;
    for (const point of this.points) {
      const [x, y] = this.pixel(point.x, point.y);
      context.globalAlpha = ["anchor", "covered", "active"].includes(point.kind) ? 0.5 : 0.9;
      context.fillStyle = colour[point.kind];
      context.beginPath();
      context.arc(x, y, size, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    if (this.what === "features") this.labels(context, colour);
    if (this.region) {
      const [a, b, c, d] = this.region;
      const [x, y] = this.pixel(a, b), [right, bottom] = this.pixel(c, d);
      context.strokeStyle = colour.link;
      context.strokeRect(x, y, right - x, bottom - y);
    }
  }

  /** Names of topics that do not overlap. @param {any} context @param {Record<string, string>} colour */
  labels(context, colour) {
    if (document.body.classList.contains("is-blurred")) return;
    /** @type {[number, number, number][]} */
    const taken = [];
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    for (const [name, , , place] of this.store?.data.topics ?? []) {
      if (!place || taken.length >= this.canvas.clientWidth / 60) continue;
      const [x, y] = this.pixel(place[0] / 1000, place[1] / 1000);
      const words = visible(name).slice(0, 40), width = context.measureText(words).width / 2 + 6;
      if (taken.some(([a, b, w]) => Math.abs(a - x) < w + width && Math.abs(b - y) < 18)) continue;
      if (x - width < 0 || x + width > this.canvas.clientWidth) continue;
      taken.push([x, y, width]);
      context.lineWidth = 4;
      context.strokeStyle = colour.panel;
      context.strokeText(words, x, y);
      context.fillStyle = colour.ink;
      context.fillText(words, x, y);
    }
  }

  /** @param {number} x @param {number} y @returns {[number, number]} */
  pixel(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [12 + x * (width - 24), 12 + y * (height - 24)];
  }

  /** @param {PointerEvent} event @returns {[number, number]} */
  where(event) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [(event.offsetX - 12) / (width - 24), (event.offsetY - 12) / (height - 24)];
  }

  /** @param {PointerEvent} event */
  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.from = this.where(event);
  }

  /** @param {PointerEvent} event */
  move(event) {
    const [x, y] = this.where(event);
    if (this.from) {
      const [a, b] = this.from;
      this.region = [Math.min(a, x), Math.min(b, y), Math.max(a, x), Math.max(b, y)];
      this.draw();
      return;
    }
    const near = this.nearest(event);
    this.tip.hidden = !near;
    if (near && this.store) {
      const name = this.what === "features" ? this.store.features.name[near.at] || "no name"
        : this.store.sampleText(near.at).slice(0, 160);
      this.tip.replaceChildren(quoted(name));
      this.tip.style.transform = `translate(${Math.min(event.offsetX + 12,
        this.canvas.clientWidth - 240)}px, ${event.offsetY + 12}px)`;
    }
  }

  /** @param {PointerEvent} event */
  release(event) {
    const region = this.region;
    this.from = undefined;
    if (!region || (region[2] - region[0]) * (region[3] - region[1]) < 1e-4) {
      this.region = null;
      const near = this.nearest(event);
      if (near) this.open(this.what, near.at);
      return;
    }
    this.mark(this.what, this.inside(...region));
  }

  clear() {
    this.region = null;
    this.draw();
    this.mark(this.what, null);
  }

  /** @param {PointerEvent} event */
  nearest(event) {
    let best = null, least = 64;
    for (const point of this.points) {
      const [x, y] = this.pixel(point.x, point.y);
      const far = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (far < least) [best, least] = [point, far];
    }
    return best;
  }

  /** @param {number} a @param {number} b @param {number} c @param {number} d */
  inside(a, b, c, d) {
    return this.points.filter((p) => p.x >= a && p.x <= c && p.y >= b && p.y <= d).map((p) => p.at);
  }

  /** The regions of a grid, for those who cannot see the map or drag on it. */
  table() {
    const kinds = [...new Set(this.points.map((point) => point.kind))];
    const head = ["Region", "Topics", ...kinds.map((kind) => STATUS_WORDS[
      /** @type {keyof STATUS_WORDS} */ (kind)] ?? kind), "List"];
    const rows = [];
    for (let cell = 0; cell < GRID * GRID; cell++) {
      const row = Math.floor(cell / GRID), column = cell % GRID;
      const found = new Set(this.inside(column / GRID, row / GRID, (column + 1) / GRID,
        (row + 1) / GRID));
      if (!found.size) continue;
      const here = this.points.filter((point) => found.has(point.at));
      rows.push(h("tr", {}, h("th", { scope: "row" }, `row ${row + 1}, column ${column + 1}`),
        h("td", {}, quoted(this.topicsOf([...found]))),
        kinds.map((kind) =>
          h("td", { class: "number" }, count(here.filter((p) => p.kind === kind).length))),
        h("td", {}, h("button", {
          type: "button", onclick: () => this.mark(this.what, [...found]),
          "aria-label": `Mark row ${row + 1}, column ${column + 1}`,
        }, "Mark"))));
    }
    document.querySelector("#map-table .scroll")?.replaceChildren(h("table", {},
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows)));
  }

  /** The commonest topics of some points. @param {number[]} places */
  topicsOf(places) {
    const store = this.store, counts = new Map();
    if (!store || this.what !== "features") return "–";
    for (const at of places) {
      const topic = store.features.topic[at];
      if (topic !== null) counts.set(topic, (counts.get(topic) ?? 0) + 1);
    }
    const best = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 2);
    return best.map(([topic]) => store.data.topics[topic][0]).join("; ") || "–";
  }
}
