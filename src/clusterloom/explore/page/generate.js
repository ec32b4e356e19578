// Views that ask the network: new images, walks, latent dimensions.

import { attempt, decoded, imageUrl, postImage, postJson, start } from "./api.js";
import { dot } from "./colours.js";
import { byId, count, fillClusters, h, latestOnly, say } from "./dom.js";
import { store } from "./store.js";

const BATCH = 24;
const OF_EACH = 8; // of each cluster, where all are shown
const SHEET_COLUMNS = 16;
const STEPS = 24;
const STEP_MS = 90;
const SLOWLY_MS = 800; // one image after the other, no film
const LESS_MOTION = matchMedia("(prefers-reduced-motion: reduce)");

const { width: WIDTH, height: HEIGHT, refines: REFINES } = start.model;

/** Cut an image out of a sheet, whose images have that size, onto a canvas of its own. */
function cut(sheet, index, columns, canvas = h("canvas", { width: WIDTH, height: HEIGHT }), [width, height] = [WIDTH, HEIGHT]) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(sheet, (index % columns) * width, Math.floor(index / columns) * height, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Whether a way of making images is the one in view. */
const isOpen = (box) => document.body.dataset.view === "generate" && !box.closest("[hidden]");

class ClusterChoice {
  /** `all` is what a choice of all of them is called, where there is one. */
  constructor(id, label, changed, all = "") {
    this.all = all;
    this.select = h("select", { id, onchange: changed });
    this.field = h("label", { class: "field" }, label, this.select);
  }

  get number() {
    return this.select.value === "" ? null : Number(this.select.value);
  }

  /** Offer the clusters that there are now, and choose the one that is looked at if `follows`; whether the choice has changed. */
  update(follows = true) {
    const before = this.select.value;
    fillClusters(this.select, store.state.clusters, this.all);
    if (follows && (store.cluster !== null || this.all)) this.select.value = store.cluster ?? "";
    return this.select.value !== before;
  }
}

/** New images of a cluster. */
export class NewImages {
  constructor() {
    this.box = byId("new-images");
    this.seeds = [0];
    this.cluster = new ClusterChoice("generate-cluster", "Cluster", () => {
      this.seeds = [0];
      store.lookAtCluster(this.cluster.number);
    }, "all clusters");
    this.spread = h("input", { type: "range", id: "spread", min: 0, max: 2, step: 0.05, value: 1 });
    this.figure = h("output", { for: "spread" }, "1.00");
    this.images = h("div", { class: "grid", id: "generated", role: "img" });
    this.moreButton = h("button", { id: "more", onclick: () => attempt(() => this.#more()) }, "More");
    this.saveButton = h("button", { id: "save-generated", onclick: () => attempt(() => this.#save()) }, "Save these");
    this.note = h("p", { class: "quiet", role: "status" });
    const redraw = latestOnly(() => attempt(() => this.#redraw()));
    this.spread.addEventListener("input", () => {
      this.figure.textContent = Number(this.spread.value).toFixed(2);
      redraw();
    });
    this.redraw = redraw;
    this.box.append(
      h("p", { class: "quiet" }, `Latents drawn from the cluster's distribution, decoded${REFINES ? ", and refined by the second decoder" : ""}. A spread of 0 gives its middle, 1 the distribution itself, more than 1 the unusual.`),
      h("div", { class: "tools" }, this.cluster.field,
        h("label", { class: "field" }, "Spread", this.spread, this.figure),
        this.moreButton,
        h("button", { id: "other", onclick: () => this.#others() }, "Others"),
        this.saveButton, this.note),
      this.images);
    store.on("cluster", () => this.show());
    store.on("labels", () => this.show());
  }

  show() {
    if (!isOpen(this.box) || !store.state) return;
    if (this.cluster.update()) this.seeds = [0];
    this.redraw();
  }

  #values(seed) {
    return { cluster: this.cluster.number, spread: Number(this.spread.value), n: BATCH, seed };
  }

  async #redraw() {
    const all = this.cluster.number === null;
    for (const button of [this.moreButton, this.saveButton]) button.hidden = all;
    const middle = Number(this.spread.value) === 0;
    this.note.textContent = middle ? "At a spread of 0 there is one image only: the middle." : "";
    if (all) {
      await this.#drawAll(middle ? 1 : OF_EACH);
      return;
    }
    const asked = middle ? [{ ...this.#values(0), n: 1 }] : this.seeds.map((seed) => this.#values(seed));
    const sheets = await Promise.all(asked.map((values) => postImage("/api/generate", values)));
    const canvases = sheets.flatMap((sheet, at) => Array.from({ length: asked[at].n }, (_, i) => cut(sheet, i, Math.min(SHEET_COLUMNS, asked[at].n))));
    this.images.setAttribute("role", "img");
    this.images.setAttribute("aria-label", `${count(canvases.length, "new image")} of ${store.title(this.cluster.number)}`);
    this.images.classList.remove("rows");
    this.images.replaceChildren(...canvases.map((canvas) => h("div", { class: "tile" }, canvas)));
  }

  /** A row for each cluster that has images. */
  async #drawAll(n) {
    const clusters = store.state.clusters.filter(({ size }) => size !== 0);
    const seed = this.seeds[0];
    const rows = [];
    for (const cluster of clusters) { // one after the other: the network takes one request at a time
      const sheet = await postImage("/api/generate", { ...this.#values(seed), cluster: cluster.number, n });
      const canvases = Array.from({ length: n }, (_, i) => cut(sheet, i, Math.min(SHEET_COLUMNS, n)));
      rows.push(h("div", { class: "generated-row", role: "img", "aria-label": `${count(n, "new image")} of ${cluster.title}` }, h("span", { class: "title" }, dot(cluster.number), cluster.title), ...canvases.map((canvas) => h("div", { class: "tile" }, canvas))));
    }
    this.images.removeAttribute("role");
    this.images.removeAttribute("aria-label");
    this.images.classList.add("rows");
    this.images.replaceChildren(...rows);
  }

  async #more() {
    this.seeds.push(this.seeds.at(-1) + 1);
    await this.redraw();
  }

  #others() {
    this.seeds = [this.seeds.at(-1) + 1];
    this.redraw();
  }

  async #save() {
    const { seed, ...values } = this.#values(0);
    const middle = values.spread === 0; // which is one image
    const saved = await postJson("/api/save/generated", middle ? { ...values, n: 1, seeds: [0] } : { ...values, seeds: this.seeds });
    say(`${count(saved.count, "new image")} in ${saved.path}`);
  }
}

/** One end of a walk: a cluster, or an image. */
class End {
  constructor(id, label, changed) {
    this.row = null;
    this.changed = changed;
    this.label = label;
    this.cluster = new ClusterChoice(id, label, () => this.setRow(null));
    this.picture = h("div", { class: "end" });
    this.element = h("div", { class: "walk-end" }, this.cluster.field, this.picture);
  }

  setRow(row) {
    this.row = row;
    this.#show();
    this.changed();
  }

  get place() {
    return this.row === null ? { cluster: this.cluster.number } : { row: this.row };
  }

  /** An image stands in place of the choice of a cluster: its own may be another one. */
  #show() {
    this.cluster.field.hidden = this.row !== null;
    const back = () => h("button", { class: "quiet", onclick: () => this.#leaveRow() }, "use a cluster instead");
    const title = () => h("span", {}, dot(store.labels[this.row]), `an image of ${store.title(store.labels[this.row])}`);
    this.picture.replaceChildren(...(this.row === null ? [] : [this.label, h("img", { src: imageUrl(this.row), alt: `image in row ${this.row}` }), title(), back()]));
  }

  /** Offer the clusters that there are now; an image that was chosen stays. */
  update(follows) {
    this.cluster.update(follows);
    this.#show();
  }

  #leaveRow() {
    this.setRow(null);
    this.cluster.select.focus(); // the button has gone
  }
}

/** The way from one image or cluster to another. */
export class Walk {
  constructor() {
    this.box = byId("walk");
    this.sheet = null;
    const changed = latestOnly(() => attempt(() => this.#redraw()));
    this.from = new End("walk-from", "From", changed);
    this.to = new End("walk-to", "To", changed);
    this.redraw = changed;
    this.shown = false;
    this.large = h("canvas", { class: "large", width: WIDTH, height: HEIGHT, role: "img", "aria-label": "the image at this point of the way" });
    this.position = h("input", { type: "range", id: "walk-position", min: 0, max: STEPS - 1, step: 1, value: 0, "aria-label": "Position on the way", oninput: () => this.#showStep() });
    this.play = h("button", { id: "walk-play", "aria-pressed": "false", onclick: () => this.#toggle() }, "Play");
    this.strip = h("div", { class: "film", "aria-hidden": "true" });
    store.on("cluster", () => {
      if (store.cluster === null || !this.shown || !isOpen(this.box)) return; // what was chosen here stays
      this.from.update(true);
      this.from.setRow(null);
    });
    store.on("labels", () => this.show());
    this.box.append(
      h("p", { class: "quiet" }, "The straight way between two places in latent space. An image's panel has “Walk from here” and “Walk to here”.", REFINES ? " All images are refined from the same noise, the ends too: they are no reconstructions." : ""),
      h("div", { class: "ends" }, this.from.element, this.to.element),
      h("div", { class: "walker" }, this.large, h("div", { class: "row" }, this.play, this.position)),
      this.strip);
  }

  show() {
    if (!isOpen(this.box) || !store.state) return;
    for (const end of [this.from, this.to]) end.update(!this.shown);
    if (!this.shown) this.#spread();
    this.redraw();
  }

  /** Begin with a way from one cluster to another. */
  #spread() {
    this.shown = true;
    const [from, to] = [this.from.cluster.select, this.to.cluster.select];
    to.selectedIndex = (from.selectedIndex + 1) % to.options.length;
  }

  async #redraw() {
    if (!isOpen(this.box)) return; // it is drawn when it is shown
    this.sheet = await postImage("/api/walk", { from: this.from.place, to: this.to.place, steps: STEPS });
    this.strip.replaceChildren(...Array.from({ length: STEPS }, (_, i) => {
      const canvas = cut(this.sheet, i, STEPS);
      canvas.addEventListener("click", () => {
        this.position.value = i;
        this.#showStep();
      });
      return canvas;
    }));
    this.#showStep();
  }

  #showStep() {
    if (!this.sheet) return;
    const step = Number(this.position.value);
    cut(this.sheet, step, STEPS, this.large);
    this.position.setAttribute("aria-valuetext", `step ${step + 1} of ${STEPS}`);
    [...this.strip.children].forEach((canvas, i) => canvas.classList.toggle("current", i === step));
  }

  #toggle() {
    if (this.timer !== undefined) this.#stop();
    else this.#start();
  }

  #start() {
    this.#showPlaying(true);
    let forth = true;
    this.timer = setInterval(() => {
      if (!isOpen(this.box)) {
        this.#stop();
        return;
      }
      const step = Number(this.position.value);
      if (step >= STEPS - 1) forth = false;
      if (step <= 0) forth = true;
      this.position.value = step + (forth ? 1 : -1);
      this.#showStep();
    }, LESS_MOTION.matches ? SLOWLY_MS : STEP_MS);
  }

  #stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.#showPlaying(false);
  }

  #showPlaying(playing) {
    this.play.setAttribute("aria-pressed", playing);
    this.play.textContent = playing ? "Pause" : "Play";
  }
}

/** Moving along the latent dimensions, one slider each, the most active first. */
export class Dimensions {
  constructor() {
    this.box = byId("dimensions");
    this.row = null;
    this.offsets = [];
    this.cluster = new ClusterChoice("dimensions-cluster", "Start from", () => store.lookAtCluster(this.cluster.number));
    store.on("cluster", () => this.setRow(null));
    store.on("labels", () => isOpen(this.box) && this.cluster.update() && this.row === null && this.reload());
    this.base = h("div", { class: "end" });
    this.large = h("canvas", { class: "large", id: "latent-image", width: WIDTH, height: HEIGHT, role: "img", "aria-label": "the image at these offsets" });
    this.list = h("ol", { class: "dimensions" });
    this.box.append(
      h("p", { class: "quiet" }, "Offsets are in standard deviations of each dimension. Beside each slider: what it alone does, from −3 to 3.", REFINES ? " Images are those of the decoder alone, not refined." : ""),
      h("div", { class: "tools" }, this.cluster.field, this.base, h("button", { onclick: () => this.#reset() }, "Back to the start")),
      h("div", { class: "latent" }, h("div", { class: "stick" }, this.large), this.list));
    this.move = latestOnly(() => attempt(() => this.#move()));
    this.reload = latestOnly(() => attempt(() => this.#reload()));
  }

  setRow(row) {
    this.row = row;
    this.show();
  }

  show() {
    if (!isOpen(this.box) || !store.state) return;
    this.cluster.update();
    this.base.replaceChildren(...(this.row === null ? [] : [h("img", { src: imageUrl(this.row), alt: `image in row ${this.row}` })]));
    this.reload();
  }

  get place() {
    return this.row === null ? { cluster: this.cluster.number } : { row: this.row };
  }

  async #reload() {
    const strips = await postJson("/api/latent/strips", { from: this.place });
    const sheet = await decoded(strips.sheet);
    const columns = strips.offsets.length;
    const size = [sheet.width / columns, sheet.height / strips.dimensions.length]; // small ones, of large images
    this.offsets = new Array(strips.dimensions.length).fill(0);
    this.list.replaceChildren(...strips.dimensions.map((dimension, line) => {
      const figure = h("output", {}, "0.0");
      const slider = h("input", { type: "range", min: -3, max: 3, step: 0.1, value: 0, "aria-label": `Latent dimension ${dimension}, in standard deviations` });
      const set = (value) => {
        slider.value = value;
        figure.textContent = Number(value).toFixed(1);
        this.offsets[dimension] = Number(value);
        this.move();
      };
      slider.addEventListener("input", () => set(slider.value));
      const strip = h("div", { class: "film", "aria-hidden": "true" }, strips.offsets.map((offset, i) => {
        const canvas = cut(sheet, line * columns + i, columns, h("canvas", { width: size[0], height: size[1] }), size);
        canvas.addEventListener("click", () => set(offset));
        return canvas;
      }));
      return h("li", {}, h("span", { class: "name" }, `z${dimension}`), slider, figure, strip);
    }));
    await this.#move();
  }

  async #move() {
    const image = await postImage("/api/latent/image", { from: this.place, offsets: this.offsets });
    const pen = this.large.getContext("2d");
    pen.drawImage(image, 0, 0);
  }

  #reset() {
    for (const slider of this.list.querySelectorAll("input")) slider.value = 0;
    for (const figure of this.list.querySelectorAll("output")) figure.textContent = "0.0";
    this.offsets.fill(0);
    this.move();
  }
}
