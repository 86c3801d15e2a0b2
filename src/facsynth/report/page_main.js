// @ts-check
// What is in view, by the address: #overview, #features, #feature=12, #topic=3, #sample=ID, #map.

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

/** @type {Record<string, Record<string, (store: Store, at: number) => boolean>>} */
const MORE = {
  features: {
    "any kind": () => true,
    "fire too much in the seed": (s, at) => (s.features.shift[at] ?? 0) > 3,
    "fire too rarely in the seed": (s, at) => (s.features.shift[at] ?? 0) < -3,
    "have written samples": (s, at) => (s.features.counts[at][2] ?? 0) > 0,
    "have a doubtful name": (s, at) => s.features.doubtful[at] === 1,
    "have a tested name": (s, at) => s.features.score[at] !== null,
    "graded yes": (s, at) => s.features.grade[at] === "yes",
    "graded probably": (s, at) => s.features.grade[at] === "probably",
    "graded maybe": (s, at) => s.features.grade[at] === "maybe",
    "graded no": (s, at) => s.features.grade[at] === "no",
  },
  samples: {
    "any": () => true,
    "fill for themselves": (s, at) => s.samples.target[at] !== null &&
      s.samples.credits[at].some(([feature]) => feature === s.samples.target[at]),
    "fill for others only": (s, at) => s.samples.target[at] !== null &&
      !s.samples.credits[at].some(([feature]) => feature === s.samples.target[at]),
  },
};

/** @type {Record<string, Record<string, (store: Store, at: number) => number | string>>} */
const ORDERS = {
  features: {
    "gaps first": (s, at) => (["missing", "filled"].includes(s.features.status[at]) ? 0 : 1),
    "most frequent first": (s, at) => -s.features.counts[at][0],
    "rarest first": (s, at) => s.features.counts[at][0],
    "strongest first": (s, at) => -s.features.max[at],
    "most written samples first": (s, at) => -(s.features.counts[at][2] ?? 0),
    "too much in the seed first": (s, at) => -(s.features.shift[at] ?? 0),
    "too rare in the seed first": (s, at) => s.features.shift[at] ?? 0,
    "best name first": (s, at) => -(s.features.score[at] ?? -1),
    "by number": (s, at) => s.ids[at],
  },
  samples: {
    "as listed": (s, at) => at,
    "most features first": (s, at) => -s.samples.credits[at].length,
    "longest first": (s, at) => -(s.samples.tokens[at] ?? 0),
    "shortest first": (s, at) => s.samples.tokens[at] ?? 0,
    "by id": (s, at) => s.samples.id[at],
  },
};

class Page {
  /** @param {Packed[]} data */
  constructor(data) {
    this.stores = data.map((one) => new Store(one));
    this.store = this.stores[0];
    /** @type {Record<string, Set<number> | null>} */
    this.marked = { features: null, samples: null };
    /** @type {number | null} */
    this.only = null; // feature whose samples are listed
    this.lists = {
      features: new VirtualList("feature-list", (at) => this.featureRow(at),
        (at) => this.go(`feature=${this.store.ids[at]}`)),
      samples: new VirtualList("sample-list", (at) => this.sampleRow(at),
        (at) => this.go(`sample=${encodeURIComponent(this.store.samples.id[at])}`)),
    };
    this.map = new PointMap((what, marked) => this.mark(what, marked),
      (what, at) => this.lists[/** @type {"features"} */ (what)].open(at));
    this.tools = { features: byId("feature-tools"), samples: byId("sample-tools") };
    for (const what of /** @type {const} */ (["features", "samples"])) {
      this.tools[what].addEventListener("input", () => this.filter(what));
      this.tools[what].addEventListener("submit", (/** @type {Event} */ e) => e.preventDefault());
    }
    byId("map-tools").addEventListener("input", () => this.map.show(this.store, this.shownOnMap()));
    byId("clear-marked").addEventListener("click", () => this.map.clear());
    byId("open-marked").addEventListener("click", () => this.go(this.map.what));
    byId("download").addEventListener("click", () => this.download());
    byId("run")?.addEventListener("change", (/** @type {any} */ event) => {
      this.use(Number(event.target.value));
      this.go("overview");
      this.route();
    });
    addEventListener("hashchange", () => this.route());
    this.use(0);
    this.route();
    const build = () => void [this.store.featureIndex, this.store.sampleIndex];
    ("requestIdleCallback" in window) ? requestIdleCallback(build) : setTimeout(build, 200);
  }

  /** Show another run. @param {number} run */
  use(run) {
    this.store = this.stores[run];
    this.marked = { features: null, samples: null };
    for (const section of document.querySelectorAll("[data-run]")) {
      /** @type {HTMLElement} */ (section).dataset.off = String(
        /** @type {HTMLElement} */ (section).dataset.run !== String(run));
    }
    const { features, samples, data } = this.store;
    for (const [what, n] of [["features", features.id.length], ["samples", samples.id.length]]) {
      const tab = /** @type {HTMLElement} */ (document.querySelector(`[data-count=${what}]`));
      tab.replaceChildren(tab.textContent?.split(/\d/)[0].trim() + " ",
        h("small", {}, count(Number(n))));
      tab.hidden = !n; // an experiment has neither
    }
    const map = /** @type {HTMLElement} */ (document.querySelector("[data-view=map]"));
    map.hidden = !features.place.some(Boolean) && !samples.place.some(Boolean);
    const tools = this.tools, has = (/** @type {string} */ what) => (/** @type {string} */ words) =>
      words.startsWith("any") || this.all(what).some((at) => MORE[what][words](this.store, at));
    const statuses = Object.keys(STATUS_WORDS).filter((s) => features.status.includes(s));
    const only = (/** @type {string} */ key) => `${key} (${count(features.status.filter(
      (s) => s === key).length)})`;
    fill(tools.features.elements.status, [["", "every status"],
      ...statuses.map((s) => /** @type {[string, string]} */ ([s, only(s)]))]);
    fill(tools.features.elements.topic, [["", "every topic"],
      ...data.topics.map(([name], at) => /** @type {[string, string]} */ ([String(at),
        document.body.classList.contains("is-blurred") ? `topic ${at}` : visible(name)]))]);
    const kinds = data.sets.filter((_, kind) => samples.kind.includes(kind));
    fill(tools.samples.elements.kind, [["", "every kind"], ...kinds.map((kind) =>
      /** @type {[string, string]} */ ([kind, kind]))]);
    for (const what of ["features", "samples"]) {
      const words = Object.keys(MORE[what]).filter(has(what));
      const own = /** @type {any} */ (tools)[what].elements;
      fill(own.more, words.map((word) => [word, word]));
      fill(own.sort, Object.keys(ORDERS[what]).map((word) => [word, word]));
    }
    this.filter("features");
    this.filter("samples");
  }

  /** @param {string} what */
  all(what) {
    const n = /** @type {any} */ (this.store)[what].id.length;
    return Array.from({ length: n }, (_, at) => at);
  }

  /** @param {string} what @param {number[] | null} marked */
  mark(what, marked) {
    this.marked[what] = marked ? new Set(marked) : null;
    byId("marked").hidden = !marked;
    if (marked) byId("marked").querySelector("output").textContent = `${count(marked.length)} marked`;
    this.filter(/** @type {"features"} */ (what));
  }

  /** All items in the chosen order; sorted once for each order. @param {string} what */
  ordered(what) {
    const name = /** @type {any} */ (this.tools)[what].elements.sort.value;
    this.orders ??= new Map();
    const key = `${what} ${name} ${this.stores.indexOf(this.store)}`;
    if (!this.orders.has(key)) {
      const order = ORDERS[what][name] ?? (() => 0), items = this.all(what);
      const keys = items.map((at) => order(this.store, at));
      items.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
      this.orders.set(key, items);
    }
    return /** @type {number[]} */ (this.orders.get(key));
  }

  /** Fill a list with what its tools let through. @param {"features" | "samples"} what */
  filter(what) {
    const store = this.store, own = this.tools[what].elements;
    const query = own.q.value.trim().toLowerCase(), words = query.split(/\s+/).filter(Boolean);
    /** @type {((at: number) => boolean)[]} */
    const tests = [];
    const status = own.status?.value, topic = own.topic?.value, kind = own.kind?.value;
    if (status) tests.push((at) => store.features.status[at] === status);
    if (topic) tests.push((at) => store.features.topic[at] === Number(topic));
    if (kind) tests.push((at) => store.data.sets[store.samples.kind[at]] === kind);
    const more = MORE[what][own.more.value], marked = this.marked[what];
    if (more && !own.more.value.startsWith("any")) tests.push((at) => more(store, at));
    if (marked) tests.push((at) => marked.has(at));
    if (what === "samples" && this.only !== null) {
      const of = new Set(store.samplesOf.get(this.only) ?? []);
      tests.push((at) => of.has(at));
    }
    if (words.length) { // the index is made when it is first needed
      const index = what === "features" ? store.featureIndex : store.sampleIndex;
      tests.push((at) => words.every((word) => index[at].includes(word)));
    }
    let found = this.ordered(what).filter((at) => tests.every((test) => test(at)));
    if (what === "features" && /^\d+$/.test(query)) { // a number first means that feature
      const at = store.featureAt.get(Number(query));
      if (at !== undefined) found = [at, ...found.filter((other) => other !== at)];
    }
    this.lists[what].show(found);
    this.say(what, found.length);
  }

  /** @param {"features" | "samples"} what @param {number} n */
  say(what, n) {
    const output = byId(what === "features" ? "feature-found" : "sample-found");
    const parts = [`${count(n)} of ${count(this.all(what).length)}`];
    if (this.marked[what]) parts.push("marked on the map");
    if (what === "samples" && this.only !== null) parts.push(`for feature ${this.only}`);
    output.replaceChildren(parts.join(", "));
    if (parts.length > 1) {
      output.append(" ", h("button", { type: "button", onclick: () => {
        this.only = null;
        this.mark(what, null);
      } }, "Show all"));
    }
  }

  /** @param {number} at */
  featureRow(at) {
    const f = this.store.features, counts = f.counts[at];
    const sets = this.store.data.sets.slice(0, 3);
    const numbers = sets.map((set, i) => (i && !f.bars[at][i] ? "" : `${count(counts[i])} ${set}`));
    return [
      h("p", { class: "first" }, f.name[at] ? quoted(f.name[at], "name") : h("i", {}, "no name"),
        h("small", { class: "id" }, this.store.ids[at])),
      h("p", { class: "second" }, badge(f.status[at]),
        f.doubtful[at] ? h("span", { class: "badge is-doubtful" }, "doubtful") : null,
        h("span", {}, numbers.filter(Boolean).join(" · "))),
    ];
  }

  /** @param {number} at */
  sampleRow(at) {
    const s = this.store.samples, kind = this.store.data.sets[s.kind[at]];
    const words = s.reason[at] || `${count(s.credits[at].length)} features shown`;
    return [
      h("p", { class: "first" }, quoted(this.store.sampleText(at).slice(0, 200), "name")),
      h("p", { class: "second" }, h("span", { class: `badge of-${kind}` }, kind),
        quoted(words),
        s.tokens[at] === null ? null : h("span", {}, `${count(s.tokens[at])} tokens`)),
    ];
  }

  shownOnMap() {
    return byId("map-tools").elements.what.value;
  }

  /** @param {string} address */
  go(address) {
    location.hash = address;
  }

  route() {
    const asked = new URLSearchParams(location.hash.slice(1));
    let view = asked.keys().next().value ?? "overview";
    if (view === "topic") {
      this.tools.features.elements.topic.value = asked.get("topic");
      this.filter("features");
    }
    if (view === "samples" && asked.has("feature")) {
      this.only = Number(asked.get("feature"));
      this.filter("samples");
    }
    view = { feature: "features", topic: "features", sample: "samples" }[view] ?? view;
    if (!document.querySelector(`[data-view="${CSS.escape(view)}"]`)) view = "overview";
    for (const section of document.querySelectorAll("[data-of]")) {
      const own = /** @type {HTMLElement} */ (section).dataset;
      /** @type {HTMLElement} */ (section).hidden = own.of !== view || own.off === "true";
    }
    for (const tab of document.querySelectorAll("[data-view]")) {
      const here = /** @type {HTMLElement} */ (tab).dataset.view === view;
      here ? tab.setAttribute("aria-current", "page") : tab.removeAttribute("aria-current");
    }
    if (view === "map") this.map.show(this.store, this.shownOnMap());
    if (asked.has("feature") && view === "features") this.openFeature(Number(asked.get("feature")));
    else if (view === "features") this.first("features");
    if (asked.has("sample")) {
      this.openSample(asked.get("sample") ?? "", Number(asked.get("paint") ?? NaN));
    } else if (view === "samples") this.first("samples");
    if (view === "overview") scrollTo(0, 0);
  }

  /** Without a choice: the list alone on a narrow screen, its first item beside it on a wide one.
   * @param {"features" | "samples"} what */
  first(what) {
    const list = this.lists[what], section = list.box.closest(".view");
    section?.classList.remove("is-open");
    list.draw();
    if (list.items.length && list.at < 0) {
      list.select(list.items[0]);
      this.fillDetail(what, list.items[0], null);
    }
  }

  /** @param {"features" | "samples"} what @param {number} at @param {number | null} paint */
  fillDetail(what, at, paint) {
    const detail = byId(what === "features" ? "feature-detail" : "sample-detail");
    const content = what === "features" ? featureDetail(this.store, at)
      : sampleDetail(this.store, at, paint);
    detail.replaceChildren(
      h("p", { class: "back" }, h("a", { href: `#${what}` }, `← all ${what}`)), ...content);
    detail.scrollTop = 0;
  }

  /** @param {"features" | "samples"} what @param {number} at @param {number | null} paint */
  present(what, at, paint) {
    const list = this.lists[what];
    if (!list.items.includes(at)) { // a link leads past the filters
      this.tools[what].reset();
      this.only = null;
      this.marked[what] = null;
      this.filter(what);
    }
    list.box.closest(".view")?.classList.add("is-open");
    list.select(at);
    this.fillDetail(what, at, paint);
    if (matchMedia("(max-width: 820px)").matches) scrollTo(0, 0);
  }

  /** @param {number} feature */
  openFeature(feature) {
    const at = this.store.featureAt.get(feature);
    if (at !== undefined) return this.present("features", at, null);
    byId("feature-detail").replaceChildren(h("p", {}, `Feature ${feature} is not on this page.`));
  }

  /** @param {string} id @param {number} paint */
  openSample(id, paint) {
    const at = this.store.sampleAt.get(id);
    if (at !== undefined) return this.present("samples", at, Number.isNaN(paint) ? null : paint);
    byId("sample-detail").replaceChildren(h("p", {}, "The sample ", quoted(id),
      " is not on this page."));
  }

  /** The listed samples as JSONL. */
  download() {
    const { samples: s, data } = this.store;
    const lines = this.lists.samples.items.map((at) => JSON.stringify({
      sample_id: s.id[at],
      messages: s.parts[at].map(([role, ...texts]) =>
        ({ role, content: texts.map((place) => data.texts[place]).join("") })),
      kind: data.sets[s.kind[at]],
      target_feature: s.target[at],
      features: s.credits[at].map(([feature, activation]) => ({ feature_id: feature, activation })),
      ...(s.reason[at] ? { reason: s.reason[at] } : {}),
    }) + "\n");
    const address = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    h("a", { href: address, download: "samples.jsonl" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}

function setUpTheme() {
  const root = document.documentElement, wanted = ["auto", "dark", "light"];
  const apply = (/** @type {string} */ theme) => {
    theme === "auto" ? delete root.dataset.theme : (root.dataset.theme = theme);
    byId("theme").textContent = { auto: "Auto", dark: "Dark", light: "Light" }[theme] ?? "Auto";
    dispatchEvent(new Event("theme"));
  };
  byId("theme").addEventListener("click", () => {
    apply(wanted[(wanted.indexOf(root.dataset.theme ?? "auto") + 1) % 3]);
  });
  apply("auto");
}

function setUpBlur() {
  const button = byId("reveal");
  button?.addEventListener("click", () => {
    const blurred = document.body.classList.toggle("is-blurred");
    button.setAttribute("aria-pressed", String(!blurred));
    button.textContent = blurred ? "show all texts" : "blur all texts";
  });
  document.addEventListener("click", (event) => {
    const text = /** @type {HTMLElement} */ (event.target).closest?.(".is-blurred .t:not(.shown)");
    if (!text) return;
    text.classList.add("shown");
    event.preventDefault();
  });
}

setUpTheme();
setUpBlur();
try {
  const page = new Page(await readData());
  addEventListener("theme", () => page.map.draw());
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
} catch (error) {
  byId("failure").hidden = false;
  byId("failure").textContent = `The features and samples cannot be shown: ${error}. The page needs ` +
    "a browser of 2024 or later.";
  throw error;
}
