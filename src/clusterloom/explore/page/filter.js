// Which images are shown: the bar above the views, and the test that it stands for.

import { byId, count, debounced, h, number, percent } from "./dom.js";
import { store } from "./store.js";

export const NO_FILTER = Object.freeze({ low: 0, high: 1, outlier: false, moved: false, unseen: false, selected: false, label: null, text: "" });

const BINS = 40;
const STEPS = 100; // of the probability's handles

/** A function of a row that says whether a filter lets it through; null for a filter that lets all through. */
export function passes(filter, { columns, labels, marks, selected }, textRows) {
  const tests = [];
  const { confidence, outlier, model, class: classes } = columns;
  if (filter.low > 0) tests.push((row) => confidence[row] >= filter.low);
  if (filter.high < 1) tests.push((row) => confidence[row] <= filter.high);
  if (filter.outlier) tests.push((row) => outlier[row] === 1 || marks[row] === 2);
  if (filter.moved) tests.push((row) => labels[row] !== model[row]);
  if (filter.unseen) tests.push((row) => marks[row] === 0);
  if (filter.selected) tests.push((row) => selected[row] === 1);
  if (filter.label !== null && classes) tests.push((row) => classes[row] === filter.label);
  if (filter.text && textRows) {
    const among = new Uint8Array(labels.length);
    for (const row of textRows) among[row] = 1;
    tests.push((row) => among[row] === 1);
  }
  if (tests.length < 2) return tests[0] ?? null; // a million rows are asked
  return (row) => tests.every((test) => test(row));
}

/** What a filter says, piece by piece, with the fields that take each piece back. */
function pieces({ low, high, outlier, moved, unseen, selected, label, text }) {
  const found = [];
  if (low > 0 || high < 1) found.push([`probability ${percent(low)} to ${percent(high)}`, { low: 0, high: 1 }]);
  if (outlier) found.push(["outliers", { outlier: false }]);
  if (moved) found.push(["moved by hand", { moved: false }]);
  if (unseen) found.push(["not looked at", { unseen: false }]);
  if (selected) found.push(["selected", { selected: false }]);
  if (label !== null) found.push([`label ${store.state.data.classes[label]}`, { label: null }]);
  if (text) found.push([`id with “${text}”`, { text: "" }]);
  return found;
}

export class FilterBar {
  constructor() {
    this.box = byId("filters");
    this.chips = h("span", { class: "chips" });
    this.figure = h("span", { class: "figure", id: "filter-count", role: "status" });
    this.toggle = h("button", { type: "button", id: "filter-toggle", "aria-expanded": "false", "aria-controls": "filter-panel", onclick: () => this.#open(this.panel.hidden) }, "Filter");
    this.all = h("button", { type: "button", id: "select-shown", onclick: () => store.select(store.rowsOf(store.cluster)) }, "Select these");
    this.panel = this.#makePanel();
    this.box.append(h("div", { class: "row" }, this.toggle, this.chips, this.figure, this.all), this.panel);
    for (const name of ["filter", "labels", "cluster", "state"]) store.on(name, () => this.#show());
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.panel.hidden) return;
      event.stopPropagation();
      this.#open(false);
      this.toggle.focus();
    });
  }

  #open(open) {
    this.panel.hidden = !open;
    this.toggle.setAttribute("aria-expanded", open);
    this.#show();
  }

  #makePanel() {
    const handle = (id, label, value) => h("input", { type: "range", id, min: 0, max: STEPS, step: 1, value, "aria-label": label, oninput: () => this.#takeRange(id) });
    this.low = handle("filter-low", "Least probability", 0);
    this.high = handle("filter-high", "Largest probability", STEPS);
    this.range = h("output", { id: "filter-range" });
    this.histogram = h("canvas", { width: 2 * BINS, height: 44, class: "histogram", role: "img" });
    this.ticks = Object.entries({ outlier: "Outliers", moved: "Moved by hand", unseen: "Not looked at yet", selected: "Selected" }).map(([field, text]) =>
      [field, h("input", { type: "checkbox", id: `filter-${field}`, onchange: (event) => store.setFilter({ [field]: event.target.checked }) }), text]);
    this.label = h("select", { id: "filter-label", onchange: () => store.setFilter({ label: this.label.value === "" ? null : Number(this.label.value) }) });
    this.labelField = h("label", { class: "field" }, "Label", this.label);
    this.text = h("input", { type: "search", id: "filter-text", maxlength: 200, autocomplete: "off", placeholder: "part of an id" });
    const search = debounced(() => store.setFilter({ text: this.text.value.trim() }), 250);
    this.text.addEventListener("input", search);
    return h("div", { id: "filter-panel", hidden: true },
      h("div", { class: "probability" }, h("div", { class: "row" }, h("span", {}, "Probability"), this.range), this.histogram, h("div", { class: "handles" }, this.low, this.high)),
      h("div", { class: "ticks" }, this.ticks.map(([, tick, text]) => h("label", {}, tick, text))),
      h("div", { class: "choices" }, this.labelField, h("label", { class: "field" }, "Id", this.text)));
  }

  /** Handles that meet push each other along. */
  #takeRange(moved) {
    let [low, high] = [Number(this.low.value), Number(this.high.value)];
    if (low > high) [low, high] = moved === "filter-low" ? [low, low] : [high, high];
    this.#apply(low / STEPS, high / STEPS);
  }

  #apply = debounced((low, high) => store.setFilter({ low, high }), 30);

  #show() {
    if (!store.ready) return;
    const { filter, cluster } = store;
    const parts = pieces(filter);
    const of = cluster === null ? store.count : store.clusterOf(cluster)?.size ?? 0;
    const shown = cluster === null ? store.visibleCount : store.countOf(cluster);
    const where = cluster === null ? "" : ` of ${store.title(cluster)}`;
    this.figure.textContent = parts.length ? `${number(shown)} of ${count(of, "image")}${where}` : `${count(of, "image")}${where}`;
    const focused = this.chips.contains(document.activeElement);
    this.chips.replaceChildren(...parts.map(([text, without]) => h("button", { type: "button", class: "chip", "aria-label": `Without the filter: ${text}`, onclick: () => store.setFilter(without) }, text, h("span", { "aria-hidden": "true" }, " ×"))),
      ...(parts.length > 1 ? [h("button", { type: "button", class: "quiet", id: "filter-clear", onclick: () => store.setFilter(NO_FILTER) }, "Clear")] : []));
    if (focused) (this.chips.querySelector("button") ?? this.toggle).focus();
    if (this.panel.hidden) return;
    [this.low.value, this.high.value] = [Math.round(filter.low * STEPS), Math.round(filter.high * STEPS)];
    this.range.textContent = `${percent(filter.low)} to ${percent(filter.high)}`;
    for (const [field, tick] of this.ticks) tick.checked = filter[field];
    if (document.activeElement !== this.text) this.text.value = filter.text;
    const { classes } = store.state.data;
    this.labelField.hidden = classes.length === 0;
    if (this.label.options.length !== classes.length + 1) this.label.replaceChildren(h("option", { value: "" }, "any"), ...classes.map((name, i) => h("option", { value: i }, name)));
    this.label.value = filter.label ?? "";
    this.#drawHistogram();
  }

  /** How many images of what is looked at have which probability; what the handles leave out is pale. */
  #drawHistogram() {
    const { columns, labels, cluster, filter } = store;
    const counts = new Array(BINS).fill(0);
    for (let row = 0; row < labels.length; row++) {
      if (cluster === null || labels[row] === cluster) counts[Math.min(Math.floor(columns.confidence[row] * BINS), BINS - 1)] += 1;
    }
    const most = Math.max(...counts, 1);
    const pen = this.histogram.getContext("2d");
    const { width, height } = this.histogram;
    const ink = getComputedStyle(this.box).color;
    pen.clearRect(0, 0, width, height);
    counts.forEach((n, bin) => {
      const inside = (bin + 1) / BINS > filter.low && bin / BINS <= filter.high;
      pen.globalAlpha = inside ? 0.75 : 0.2;
      pen.fillStyle = ink;
      const tall = n ? Math.max(1, Math.round(Math.sqrt(n / most) * height)) : 0; // roots: a few doubtful ones are seen too
      pen.fillRect((bin * width) / BINS, height - tall, width / BINS - 0.4, tall);
    });
    this.histogram.setAttribute("aria-label", `How many images have which probability; heights are square roots of numbers, the largest is ${number(most)}`);
  }
}
