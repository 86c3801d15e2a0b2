// @ts-check
// One feature, one sample.

/** @param {string} status */
const badge = (status) =>
  h("span", { class: `badge is-${status}` }, STATUS_WORDS[status] ?? status);

/** A link to a feature by its name. @param {Store} store @param {number} feature */
function featureLink(store, feature) {
  const name = store.nameOf(feature);
  if (!store.featureAt.has(feature)) return h("span", {}, `feature ${feature}`);
  const shown = name ? quoted(name) : "no name";
  return h("a", { href: `#feature=${feature}` }, shown, h("small", { class: "id" }, feature));
}

/** @param {string} text @param {HTMLElement} button */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "offscreen" });
    area.textContent = text;
    document.body.append(area);
    /** @type {HTMLTextAreaElement} */ (area).select();
    document.execCommand("copy");
    area.remove();
  }
  const words = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = words), 1200);
}

/** @param {string} words @param {() => string} text */
function copyButton(words, text) {
  const button = h("button", { type: "button", onclick: () => copy(text(), button) }, words);
  return button;
}

/** @param {string} title @param {...any} children */
function block(title, ...children) {
  return h("section", { class: "block" }, h("h3", {}, title), ...children);
}

/** Activation histograms of a feature, one row a set. @param {Store} store @param {number} at */
function histograms(store, at) {
  const { counts, bars, max } = store.features;
  const rows = store.data.sets.slice(0, 3).map((kind, set) => ({ kind, bars: bars[at][set] }));
  const shown = rows.filter((row) => row.bars);
  if (!shown.length) return null;
  const drawn = shown.map(({ kind, bars: own }) => {
    const values = /** @type {number[]} */ (own), most = Math.max(...values);
    const words = `${kind}: ${count(counts[at][rows.findIndex((r) => r.kind === kind)])} samples`;
    const svg = h("svg", {
      viewBox: "0 0 240 44", role: "img", "aria-label": `Activations in ${words}`,
      class: `bars ${kind}`,
    });
    values.forEach((value, i) => {
      const height = value ? Math.max(1.5, (38 * value) / most) : 0;
      svg.append(h("rect", { x: i * 20 + 1, width: 18, y: 40 - height, height }));
    });
    const x = Math.min(239, (240 * store.data.threshold) / (max[at] || 1));
    svg.append(h("line", { x1: x, x2: x, y1: 0, y2: 40, class: "rule" }));
    svg.append(h("line", { x1: 0, x2: 240, y1: 40, y2: 40, class: "base" }));
    return h("figure", {}, h("figcaption", {}, words), svg);
  });
  const scale = h("p", { class: "hint scale" },
    `Samples by largest activation, 0 to ${number(max[at])} in SAE units; the dashed line is δ = ` +
    `${store.data.threshold}.`);
  return block("Activations", h("div", { class: "histograms" }, drawn), scale);
}

/** @param {Store} store @param {Span[]} spans */
function spanList(store, spans) {
  return h("ol", { class: "spans" }, spans.map(([text, first, n, peak, value, paint, sample]) =>
    h("li", {},
      h("span", { class: "value" }, number(value)),
      painted(store, text, first, n, paint, n ? peak : null),
      sample === null ? null : h("a", {
        class: "more", href: `#sample=${encodeURIComponent(store.samples.id[sample])}`,
        "aria-label": "The whole sample",
      }, "sample"))));
}

/** Texts that were written for a feature or fill it. @param {Store} store @param {number} feature */
function writtenFor(store, feature) {
  const { kind, target, credits, reason, id, parts } = store.samples;
  const found = (store.samplesOf.get(feature) ?? [])
    .filter((at) => store.data.sets[kind[at]] === "synthetic" || target[at] === feature)
    .map((at) => ({ at, credit: credits[at].find((credit) => credit[0] === feature) }))
    .sort((a, b) => (b.credit?.[1] ?? 0) - (a.credit?.[1] ?? 0));
  if (!found.length) return null;
  const own = found.filter(({ at }) => target[at] === feature);
  const pair = own.length > 1 ? [own[0].at, own[own.length - 1].at] : [];
  const rows = found.slice(0, 8).map(({ at, credit }) => {
    const [, ...texts] = parts[at][0];
    const place = credit?.[2] ?? texts[0];
    return h("li", {},
      h("span", { class: "value" }, credit ? number(credit[1]) : "–"),
      painted(store, place, 0, 0, credit?.[4][place] ?? "", credit?.[3] ?? null),
      h("a", { class: "more", href: `#sample=${encodeURIComponent(id[at])}` }, "sample"),
      h("span", { class: "more note" },
        reason[at] ? `rejected: ${reason[at]}` : target[at] === feature ? "written for it" : "kept",
        pair[0] === at ? ", its strongest" : pair[1] === at ? ", its weakest" : ""));
  });
  const more = found.length > 8
    ? h("p", { class: "hint" }, `${count(found.length - 8)} more: `,
        h("a", { href: `#samples&feature=${feature}` }, "all of them"))
    : null;
  return block("Written samples", h("ol", { class: "spans" }, rows), more);
}

/** @param {Store} store @param {number} at @returns {HTMLElement[]} */
function featureDetail(store, at) {
  const f = store.features, id = store.ids[at];
  const score = f.score[at], topic = f.topic[at], shift = f.shift[at];
  const facts = [
    ["Name", `${METHODS[f.method[at]] ?? f.method[at]}${score === null ? "" :
      `; balanced accuracy ${number(score)} on text that it was not made from (0.5 is a guess)`}`],
    f.grade[at] ? ["Relevance", `${f.grade[at]}${f.reason[at] ? `: ${f.reason[at]}` : ""}`] : null,
    ["Samples", store.data.sets.slice(0, 3).map((set, i) => `${count(f.counts[at][i])} ${set}`)
      .filter((_, i) => i === 0 || f.bars[at][i]).join(", ") || "none"],
    shift === null || Math.abs(shift) < 2 ? null : ["Seed",
      `fires ${shift > 0 ? "more" : "less"} often than in the anchor (z = ${shift.toFixed(1)})`],
  ].filter((fact) => fact !== null);
  const elsewhere = store.data.link.startsWith("https://")
    ? h("a", { href: store.data.link.replace("{id}", String(id)), rel: "noreferrer" }, "Neuronpedia")
    : null;
  const link = () => `${location.href.split("#")[0]}#feature=${id}`;
  const near = f.near[at];
  const parts = [
    h("p", { class: "crumbs" }, badge(f.status[at]),
      f.doubtful[at] ? h("span", { class: "badge is-doubtful" }, "doubtful name") : null,
      topic === null ? null : h("a", { href: `#topic=${topic}` }, "topic: ",
        quoted(store.data.topics[topic][0]))),
    h("h2", { tabindex: "-1" }, f.name[at] ? quoted(f.name[at]) : "no name",
      h("small", { class: "id" }, id)),
    h("dl", { class: "facts" }, facts.map(([name, text]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, quoted(text))))),
    h("p", { class: "buttons" }, copyButton("Copy link", link), elsewhere),
    histograms(store, at),
    f.spans[at].length
      ? block("Strongest spans", spanList(store, f.spans[at]),
          store.data.unpainted ? h("p", { class: "hint" }, store.data.unpainted) : null)
      : block("Strongest spans", h("p", { class: "hint" }, "No span was collected.")),
    f.misses[at].length
      ? block("Near misses", h("p", { class: "hint" }, "They share its words, and it is silent."),
          h("ul", { class: "spans" }, f.misses[at].map((text) =>
            h("li", {}, h("span", { class: "value" }, "0"), painted(store, text)))))
      : null,
    writtenFor(store, id),
    near.length
      ? block("Neighbours", h("ul", { class: "near" }, near.map(([other, cosine, shared]) => {
          const there = store.featureAt.get(other);
          const words = `in ${Math.round(100 * shared)} % of the samples with either` +
            (cosine === null ? "" : `, cosine ${number(cosine)}`);
          return h("li", {}, featureLink(store, other),
            there === undefined ? null : badge(f.status[there]),
            h("span", { class: "more" }, words));
        })))
      : null,
  ];
  return /** @type {HTMLElement[]} */ (parts.filter(Boolean));
}

/**
 * @param {Store} store @param {number} at @param {number | null} chosen feature to paint
 * @returns {HTMLElement[]}
 */
function sampleDetail(store, at, chosen) {
  const s = store.samples, kind = store.data.sets[s.kind[at]], credits = s.credits[at];
  const credit = credits.find((one) => one[0] === chosen) ?? credits[0];
  const turns = s.parts[at].map(([role, ...texts]) =>
    h("div", { class: "turn" }, h("h4", {}, visible(role)),
      h("p", {}, texts.map((place) => painted(store, place, 0, 0, credit?.[4][place] ?? "",
        credit && credit[2] === place ? credit[3] : null)))));
  const target = s.target[at];
  const facts = [
    s.tokens[at] === null ? null : ["Scored tokens", count(s.tokens[at])],
    s.active[at] === null ? null : ["Active features", count(s.active[at])],
    ...s.facts[at].map(([name, text]) => [name[0].toUpperCase() + name.slice(1), text]),
  ].filter((fact) => fact !== null);
  const fills = credits.some(([feature]) => {
    const there = store.featureAt.get(feature);
    return there !== undefined && store.features.status[there] === "filled";
  });
  const words = kind === "synthetic" && fills ? "Missing features that it activates"
    : "Features that it activates most";
  const list = h("ul", { class: "credits" }, credits.map((one) => {
    const there = store.featureAt.get(one[0]);
    return h("li", {},
      h("button", {
        type: "button", "aria-pressed": one === credit ? "true" : "false", class: "paint",
        "aria-label": `Paint the text for feature ${one[0]}`,
        onclick: () => (location.hash = `sample=${encodeURIComponent(s.id[at])}&paint=${one[0]}`),
      }, number(one[1])),
      featureLink(store, one[0]),
      there === undefined ? null : badge(store.features.status[there]));
  }));
  const parts = [
    h("p", { class: "crumbs" }, h("span", { class: `badge of-${kind}` }, kind),
      s.reason[at] ? h("span", { class: "badge is-missing" }, quoted(s.reason[at])) : null),
    h("h2", { tabindex: "-1", class: "sample-id" }, quoted(s.id[at])),
    target === null ? null : h("p", {}, "Written for ", featureLink(store, target)),
    h("div", { class: "turns" }, turns),
    credit
      ? h("p", { class: "hint" }, "Painted for ", featureLink(store, credit[0]), ". ",
          store.data.unpainted ? `Only its peak is marked: ${store.data.unpainted}` : "")
      : null,
    h("p", { class: "buttons" },
      copyButton("Copy text", () => store.sampleText(at)),
      copyButton("Copy link", () =>
        `${location.href.split("#")[0]}#sample=${encodeURIComponent(s.id[at])}`)),
    credits.length ? block(words, h("p", { class: "hint" }, "A number paints the text for it."), list)
      : null,
    h("dl", { class: "facts" }, facts.map(([name, text]) =>
      h("div", {}, h("dt", {}, visible(name)), h("dd", {}, quoted(text))))),
  ];
  return /** @type {HTMLElement[]} */ (parts.filter(Boolean));
}
