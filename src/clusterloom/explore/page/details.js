// The panel beside the views: the image that is looked at, and the images that are chosen.

import { attempt, getBytes, getJson, imageUrl, placeUrl, postJson } from "./api.js";
import { colour, dot } from "./colours.js";
import { openLarge } from "./dialogs.js";
import { byId, chance, count, debounced, h, number, percent, refill, say } from "./dom.js";
import { briefs } from "./gallery.js";
import { Grid } from "./grid.js";
import { Sheet } from "./sheet.js";
import { CONFIRMED, OUTLIER, store } from "./store.js";

const SHOWN = 24;
const FOUND = 100; // images of a search that are shown
const SIMILAR = 120;

/** Bars of probabilities: [[cluster, probability], ...]. */
export function probabilityBars(probabilities) {
  return h("dl", { class: "bars" }, probabilities.flatMap(([cluster, p]) => [
    h("dt", {}, dot(cluster), store.title(cluster)),
    h("dd", {}, h("span", { class: "track" }, h("span", { style: { width: `${100 * p}%`, background: colour(cluster) } })), h("span", { class: "figure" }, chance(p)))]));
}

export class Details {
  /** `go` has the actions that lead to other views: goTo(row), walkFrom(row), walkTo(row), dimensions(row), showSelection(). */
  constructor(go) {
    this.go = go;
    this.imageBox = byId("image-details");
    this.selectionBox = byId("selection");
    this.foundBox = byId("found");
    this.foundGrid = new Grid("Images found");
    this.sheet = new Sheet();
    store.on("image", () => {
      this.#showImage();
      this.sheet.open("image-details");
    });
    store.on("selection", () => this.#takeSelection());
    store.on("cluster", () => this.#showSelection());
    store.on("state", () => {
      this.#showImage();
      this.#showSelection();
    });
    this.#bindSearch();
  }

  #takeSelection() {
    const isFirst = store.selectedCount > 0 && !this.hadSelection;
    this.hadSelection = store.selectedCount > 0;
    this.sheet.name("selection", store.selectedCount ? `${number(store.selectedCount)} selected` : "Selection");
    if (isFirst && !this.sheet.panel.contains(document.activeElement)) this.sheet.open("selection");
    this.#nameChoice();
    this.#showSelection();
  }

  #showImage = debounced(async () => {
    const row = store.image;
    if (row === null || !store.ready) return;
    const details = await attempt(() => getJson(`/api/images/${row}`));
    if (!details || row !== store.image) return;
    const { go } = this;
    const { classes } = store.state.data;
    const facts = [
      details.changed && `moved by hand; the model had put it into cluster ${details.model_cluster}`,
      { [CONFIRMED]: !details.changed && "kept by you", [OUTLIER]: "marked by you as an outlier" }[details.mark],
      details.outlier && "an outlier: the model explains it badly",
      classes.length && `label ${classes[store.columns.class[row]]}`,
    ].filter(Boolean);
    refill(this.imageBox,
      h("h2", { class: "id", tabindex: "-1" }, details.id),
      h("button", { id: "enlarge", class: "picture", "aria-label": "Enlarge the image", title: "Enlarge", onclick: () => openLarge(row, details.id) }, h("img", { class: "large", src: imageUrl(row), alt: `image ${details.id}` })),
      details.is_tile ? h("img", { class: "place", src: placeUrl(row, store.state.revision), alt: "the whole picture, this tile framed, in the colours of the clusters" }) : "",
      h("p", {}, dot(details.cluster), details.title),
      facts.length ? h("p", { class: "quiet" }, facts.join("; ")) : "",
      probabilityBars(details.probabilities.filter(([, p], i) => i < 2 || p >= 0.005)),
      details.score_rank === null ? "" : h("p", { class: "quiet", title: `score ${details.score.toFixed(1)} nats` }, `explained better than ${percent(details.score_rank)} of all images`),
      h("div", { class: "tools" },
        h("button", { id: "more-like-this", onclick: () => this.findSimilar([row], `More like ${details.id}`) }, "Find more like this"),
        h("button", { id: "choose-image", "data-row": row, onclick: () => store.toggle(row) }),
        h("button", { id: "image-on-map", onclick: () => this.#leave(() => go.goTo(row)) }, "On the map"),
        ...(store.state.why_not_decoding ? [] : [
          h("button", { id: "image-walk-from", onclick: () => this.#leave(() => go.walkFrom(row)) }, "Walk from here"),
          h("button", { id: "image-walk-to", onclick: () => this.#leave(() => go.walkTo(row)) }, "Walk to here"),
          h("button", { id: "image-dimensions", onclick: () => this.#leave(() => go.dimensions(row)) }, "Its dimensions"),
        ])),
    );
    this.#nameChoice();
  }, 30);

  /** Go to another view, which a sheet would cover. */
  #leave(act) {
    this.sheet.open("");
    act();
  }

  #nameChoice() {
    const choice = byId("choose-image");
    if (choice) choice.textContent = store.selected[choice.dataset.row] ? "Unselect" : "Select";
  }

  #showSelection = debounced(() => {
    if (!store.ready) return;
    const n = store.selectedCount;
    const heading = h("h2", { tabindex: "-1" }, n ? `${count(n, "image")} selected` : "Nothing selected");
    if (n === 0) {
      refill(this.selectionBox, heading, h("p", { class: "quiet" },
        "Draw a lasso on the map (hold Shift), tick images in a gallery, or press Space on one."));
      return;
    }
    const rows = store.selectedRows();
    const to = h("select", { id: "move-to" }, h("option", { value: "new" }, "a new cluster"),
      store.state.clusters.map((cluster) => h("option", { value: cluster.number }, cluster.title)));
    const keep = this.moveTo;
    if (keep && [...to.options].some((option) => option.value === keep)) to.value = keep;
    to.addEventListener("change", () => (this.moveTo = to.value));
    refill(this.selectionBox,
      heading,
      h("div", { class: "grid small" }, rows.slice(0, SHOWN).map((row) => h("div", { class: "tile" }, h("img", { src: imageUrl(row), alt: "" })))),
      n > SHOWN ? h("p", { class: "quiet" }, `and ${number(n - SHOWN)} more`) : "",
      h("form", { class: "tools", onsubmit: (event) => this.#move(event, to.value) }, h("label", { for: "move-to" }, "Move to"), to, h("button", { id: "move", class: "primary" }, "Move")),
      h("div", { class: "tools" },
        h("button", { id: "confirm-selection", title: "They are where they belong", onclick: () => this.#mark("confirm", "kept") }, "Keep"),
        h("button", { id: "outlier-selection", title: "They belong to no cluster", onclick: () => this.#mark("outlier", "marked as outliers") }, "Outliers")),
      h("div", { class: "tools" },
        h("button", { id: "more-like-these", onclick: () => this.findSimilar(store.selectedRows(), `More like these ${number(n)}`) }, "Find more like these"),
        h("button", { id: "save-copies", onclick: () => this.#save("copies") }, "Save copies"),
        store.state.data.linkable ? h("button", { id: "save-links", onclick: () => this.#save("links") }, "Save links") : "",
        h("button", { id: "show-selection", onclick: () => this.#leave(() => this.go.showSelection()) }, "Show them"),
        h("button", { id: "invert-selection", title: "All that are shown and not selected", onclick: () => store.invert() }, "Invert"),
        store.cluster === null ? "" : h("button", { id: "intersect-selection", onclick: () => store.intersect(store.rowsOf(store.cluster)) }, `Only those in ${store.title(store.cluster)}`),
        h("button", { id: "clear-selection", onclick: () => store.select([]) }, "Clear")),
    );
  }, 30);

  async #move(event, value) {
    event.preventDefault();
    const rows = store.selectedRows();
    const to = value === "new" ? store.state.next_number : Number(value);
    const done = `${count(rows.length, "image")} moved to ${value === "new" ? `cluster ${to}` : store.title(to)}`;
    if (await store.edit({ op: "move", rows, to }, done)) store.select([]);
  }

  async #mark(op, done) {
    const rows = store.selectedRows();
    if (await store.edit({ op, rows }, `${count(rows.length, "image")} ${done}`)) store.select([]);
  }

  async #save(how) {
    const saved = await attempt(() => postJson("/api/save/images", { rows: store.selectedRows(), how }));
    if (saved) say(`${count(saved.count, "image")} in ${saved.path}`);
  }

  /** Show images that are most like some others. */
  async findSimilar(rows, title) {
    const found = await attempt(() => postJson("/api/similar", { rows, n: SIMILAR }));
    if (!found) return;
    const asked = rows.length <= FOUND ? await attempt(() => briefs(rows)) : [];
    if (!asked) return;
    const images = found.images.map((image, i) => ({ ...image, distance: found.distances[i] }));
    this.#showFound(title, [...asked.map((image) => ({ ...image, distance: 0 })), ...images], found.distances.at(-1) ?? 0);
  }

  /** What was found; where it has distances, up to `furthest`, how far away it may be can be chosen. */
  #showFound(title, images, furthest = 0) {
    const asked = document.activeElement.id;
    const leave = () => {
      this.foundBox.replaceChildren();
      store.setFound([]);
      this.sheet.open(byId(asked)?.closest("#details > section")?.id ?? "");
      (byId(asked) ?? byId("main")).focus();
    };
    this.foundGrid.clear();
    const within = (limit) => images.filter(({ distance }) => distance === undefined || distance <= limit);
    const figure = h("output", { for: "found-cutoff" });
    const cutoff = h("input", { type: "range", id: "found-cutoff", min: 0, max: furthest, step: furthest / 100, value: furthest, oninput: () => show(Number(cutoff.value)) });
    const show = (limit) => {
      const some = limit >= furthest ? images : within(limit);
      this.foundGrid.replace(some);
      figure.textContent = `${limit.toFixed(2)}: ${count(some.length, "image")}`;
      store.setFound(some.map(({ row }) => row));
    };
    const distances = furthest > 0 ? h("div", { class: "tools" }, h("label", { class: "field" }, "At most as far as", cutoff), figure) : "";
    const close = h("button", { class: "quiet", "aria-label": "Close what was found", onclick: leave }, "×");
    const all = h("button", { id: "select-found", onclick: () => store.select(this.foundGrid.rows, true) }, "Select these");
    this.foundBox.replaceChildren(h("div", { class: "row" }, h("h2", { tabindex: "-1" }, title), close), distances, images.length ? h("div", { class: "tools" }, all) : "", this.foundGrid.element);
    show(furthest);
    this.sheet.open("found");
    this.foundBox.querySelector("h2").focus();
  }

  #bindSearch() {
    byId("search").addEventListener("submit", async (event) => {
      event.preventDefault();
      const text = byId("search-text").value.trim();
      if (!text || !store.ready) return;
      const bytes = await attempt(() => getBytes(`/api/find?text=${encodeURIComponent(text)}`));
      if (!bytes) return;
      const rows = new Uint32Array(bytes);
      const images = await attempt(() => briefs(rows.slice(0, FOUND)));
      if (!images) return;
      if (rows.length > 0) store.lookAt(rows[0]);
      this.#showFound(`${count(rows.length, "image")} with “${text}”${rows.length > FOUND ? `, the first ${FOUND}` : ""}`, images);
    });
  }
}
