// @ts-check
// A list of any length of which only the rows in sight exist.

const ROW = 62;
const SPARE = 6;

class VirtualList {
  /**
   * @param {string} id of the box
   * @param {(item: number) => Node[]} render the content of a row
   * @param {(item: number) => void} open
   */
  constructor(id, render, open) {
    this.box = /** @type {HTMLElement} */ (document.getElementById(id));
    this.inner = h("div", { class: "inner", role: "presentation" });
    this.box.append(this.inner);
    this.render = render;
    this.open = open;
    /** @type {number[]} */
    this.items = [];
    this.at = -1;
    this.box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), {
      passive: true,
    });
    this.box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** @param {number[]} items */
  show(items) {
    const chosen = this.items[this.at];
    this.items = items;
    this.at = items.indexOf(chosen);
    this.inner.style.height = `${items.length * ROW}px`;
    this.box.scrollTop = 0;
    this.draw();
  }

  /** Mark an item and bring it into sight. @param {number} item */
  select(item) {
    this.at = this.items.indexOf(item);
    const top = this.at * ROW, seen = this.box.clientHeight;
    if (this.at >= 0 && (top < this.box.scrollTop || top + ROW > this.box.scrollTop + seen)) {
      this.box.scrollTop = Math.max(0, top - seen / 3);
    }
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - SPARE);
    const n = Math.ceil(this.box.clientHeight / ROW) + 2 * SPARE;
    const rows = this.items.slice(first, first + n).map((item, i) => {
      const place = first + i;
      const row = h("div", {
        class: "item", role: "option", id: `${this.box.id}-${place}`,
        "aria-setsize": this.items.length, "aria-posinset": place + 1,
        "aria-selected": place === this.at ? "true" : "false",
        onclick: () => this.choose(place),
      }, this.render(item));
      row.style.transform = `translateY(${place * ROW}px)`;
      return row;
    });
    this.inner.replaceChildren(...rows);
    const marked = this.at >= first && this.at < first + n;
    if (marked) this.box.setAttribute("aria-activedescendant", `${this.box.id}-${this.at}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  /** @param {number} place */
  choose(place) {
    if (!this.items.length) return;
    this.at = Math.min(Math.max(place, 0), this.items.length - 1);
    this.select(this.items[this.at]);
    this.open(this.items[this.at]);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    /** @type {Record<string, number>} */
    const to = {
      ArrowDown: this.at + 1, ArrowUp: this.at - 1, PageDown: this.at + page,
      PageUp: this.at - page, Home: 0, End: this.items.length - 1, Enter: this.at,
    };
    if (!(event.key in to)) return;
    event.preventDefault();
    this.choose(to[event.key]);
  }
}

/**
 * Fill a select; options without a value are headings of what follows.
 * @param {HTMLSelectElement} select @param {[string, string][]} options value and words
 */
function fill(select, options) {
  const kept = select.value;
  select.replaceChildren(...options.map(([value, words]) => h("option", { value }, words)));
  if (options.some(([value]) => value === kept)) select.value = kept;
}
