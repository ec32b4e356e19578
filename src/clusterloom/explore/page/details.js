// The panel beside the views: the image that is looked at, and the images that are chosen.

import { attempt, getJson, imageUrl, placeUrl, postJson } from "./api.js";
import { colour, dot } from "./colours.js";
import { byId, count, debounced, h, number, percent, refill, say } from "./dom.js";
import { Grid } from "./gallery.js";
import { Sheet } from "./sheet.js";
import { store } from "./store.js";

const SHOWN = 24;

/** Bars of probabilities: [[cluster, probability], ...]. */
export function probabilityBars(probabilities) {
  return h("dl", { class: "bars" }, probabilities.flatMap(([cluster, p]) => [
    h("dt", {}, dot(cluster), store.title(cluster)),
    h("dd", {}, h("span", { class: "track" }, h("span", { style: { width: `${100 * p}%`, background: colour(cluster) } })), h("span", { class: "figure" }, percent(p)))]));
}

export class Details {
  /** `go` has the actions that lead to other views: goTo(row), walkFrom(row), walkTo(row), dimensions(row). */
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
    const facts = [
      details.changed && `moved by hand; the model had put it into ${modelTitle(details.model_cluster)}`,
      details.outlier && "an outlier: the model explains it badly",
    ].filter(Boolean);
    refill(this.imageBox,
      h("h2", { class: "id", tabindex: "-1" }, details.id),
      h("img", { class: "large", src: imageUrl(row), alt: `image ${details.id}` }),
      details.is_tile ? h("img", { class: "place", src: placeUrl(row, store.state.revision), alt: "the whole picture, this tile framed, in the colours of the clusters" }) : "",
      h("p", {}, dot(details.cluster), details.title),
      facts.length ? h("p", { class: "quiet" }, facts.join("; ")) : "",
      probabilityBars(details.probabilities.filter(([, p], i) => i < 2 || p >= 0.005)),
      details.score === null ? "" : h("p", { class: "quiet" }, `score ${details.score.toFixed(1)} nats`),
      h("div", { class: "tools" },
        h("button", { id: "more-like-this", onclick: () => this.findSimilar([row], `More like ${details.id}`) }, "Find more like this"),
        h("button", { id: "choose-image", "data-row": row, onclick: () => store.toggle(row) }),
        h("button", { id: "image-on-map", onclick: () => this.#leave(() => go.goTo(row)) }, "On the map"),
        ...(store.state.decodes ? [] : [
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
        h("button", { id: "more-like-these", onclick: () => this.findSimilar(store.selectedRows(), `More like these ${number(n)}`) }, "Find more like these"),
        h("button", { id: "save-copies", onclick: () => this.#save("copies") }, "Save copies"),
        store.state.data.linkable ? h("button", { id: "save-links", onclick: () => this.#save("links") }, "Save links") : "",
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

  async #save(how) {
    const saved = await attempt(() => postJson("/api/save/images", { rows: store.selectedRows(), how }));
    if (saved) say(`${count(saved.count, "image")} in ${saved.path}`);
  }

  /** Show images that are most like some others. */
  async findSimilar(rows, title) {
    const found = await attempt(() => postJson("/api/similar", { rows, n: 60 }));
    if (found) this.#showFound(title, found.images);
  }

  #showFound(title, images) {
    const asked = document.activeElement.id;
    const leave = () => {
      this.foundBox.replaceChildren();
      this.sheet.open(byId(asked)?.closest("#details > section")?.id ?? "");
      (byId(asked) ?? byId("main")).focus();
    };
    this.foundGrid.clear();
    const close = h("button", { class: "quiet", "aria-label": "Close what was found", onclick: leave }, "×");
    const all = h("button", { id: "select-found", onclick: () => store.select(this.foundGrid.rows, true) }, "Select these");
    this.foundBox.replaceChildren(h("div", { class: "row" }, h("h2", { tabindex: "-1" }, title), close), images.length ? h("div", { class: "tools" }, all) : "", this.foundGrid.element);
    this.foundGrid.add(images);
    this.sheet.open("found");
    this.foundBox.querySelector("h2").focus();
  }

  #bindSearch() {
    byId("search").addEventListener("submit", async (event) => {
      event.preventDefault();
      const text = byId("search-text").value.trim();
      if (!text || !store.ready) return;
      const found = await attempt(() => getJson(`/api/find?text=${encodeURIComponent(text)}`));
      if (!found) return;
      if (found.images.length > 0) store.lookAt(found.images[0].row);
      this.#showFound(`${count(found.total, "image")} with “${text}”${found.total > found.images.length ? `, the first ${found.images.length}` : ""}`, found.images);
    });
  }
}

const modelTitle = (number) => store.title(number);
