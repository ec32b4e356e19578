// Views that ask the network: new images, walks, latent dimensions.

import { attempt, decoded, imageUrl, postImage, postJson, start } from "./api.js";
import { byId, count, h, latestOnly, say } from "./dom.js";
import { store } from "./store.js";

const BATCH = 24;
const SHEET_COLUMNS = 16;
const STEPS = 24;

const { width: WIDTH, height: HEIGHT } = start.model;

/** Cut an image out of a sheet onto a canvas of its own. */
function cut(sheet, index, columns, canvas = h("canvas", { width: WIDTH, height: HEIGHT })) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, WIDTH, HEIGHT);
  pen.drawImage(sheet, (index % columns) * WIDTH, Math.floor(index / columns) * HEIGHT, WIDTH, HEIGHT, 0, 0, WIDTH, HEIGHT);
  return canvas;
}

function clusterChoice(id, label) {
  const choice = h("select", { id });
  const fill = () => {
    const before = choice.value;
    choice.replaceChildren(...store.state.clusters.map((cluster) => h("option", { value: cluster.number }, cluster.title)));
    if ([...choice.options].some((option) => option.value === before)) choice.value = before;
  };
  store.on("state", fill);
  return { choice, fill, field: h("label", { class: "field" }, label, choice) };
}

/** New images of a cluster. */
export class NewImages {
  constructor() {
    this.box = byId("new-images");
    this.seeds = [0];
    this.cluster = clusterChoice("generate-cluster", "Cluster");
    this.spread = h("input", { type: "range", id: "spread", min: 0, max: 2, step: 0.05, value: 1 });
    this.figure = h("output", { for: "spread" }, "1.00");
    this.images = h("div", { class: "grid", id: "generated", role: "img" });
    const redraw = latestOnly(() => attempt(() => this.#redraw()));
    this.cluster.choice.addEventListener("change", () => {
      this.seeds = [0];
      store.lookAtCluster(Number(this.cluster.choice.value));
      redraw();
    });
    this.spread.addEventListener("input", () => {
      this.figure.textContent = Number(this.spread.value).toFixed(2);
      redraw();
    });
    this.redraw = redraw;
    this.box.append(
      h("p", { class: "quiet" }, "Latents drawn from the cluster's normal distribution, decoded. A spread of 0 gives its middle, 1 the distribution itself, more than 1 the unusual."),
      h("div", { class: "tools" }, this.cluster.field,
        h("label", { class: "field" }, "Spread", this.spread, this.figure),
        h("button", { id: "more", onclick: () => attempt(() => this.#more()) }, "More"),
        h("button", { id: "other", onclick: () => this.#others() }, "Others"),
        h("button", { id: "save-generated", onclick: () => attempt(() => this.#save()) }, "Save these")),
      this.images);
    store.on("cluster", () => this.show());
    store.on("labels", () => this.show());
  }

  show() {
    if (this.box.closest("[hidden]") || !store.state) return;
    if (this.cluster.choice.options.length === 0) this.cluster.fill();
    if (store.cluster !== null) {
      if (this.cluster.choice.value !== String(store.cluster)) this.seeds = [0];
      this.cluster.choice.value = String(store.cluster);
    }
    this.redraw();
  }

  #values(seed) {
    return { cluster: Number(this.cluster.choice.value), spread: Number(this.spread.value), n: BATCH, seed };
  }

  async #redraw() {
    const sheets = await Promise.all(this.seeds.map((seed) => postImage("/api/generate", this.#values(seed))));
    const canvases = sheets.flatMap((sheet) => Array.from({ length: BATCH }, (_, i) => cut(sheet, i, SHEET_COLUMNS)));
    this.images.setAttribute("aria-label", `${count(canvases.length, "new image")} of ${store.title(Number(this.cluster.choice.value))}`);
    this.images.replaceChildren(...canvases.map((canvas) => h("div", { class: "tile" }, canvas)));
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
    const saved = await postJson("/api/save/generated", { ...values, seeds: this.seeds });
    say(`${count(saved.count, "new image")} in ${saved.path}`);
  }
}

/** One end of a walk: a cluster, or an image. */
class End {
  constructor(id, label, changed) {
    this.row = null;
    this.changed = changed;
    this.cluster = clusterChoice(id, label);
    this.cluster.choice.addEventListener("change", () => {
      this.row = null;
      this.#show();
      changed();
    });
    this.picture = h("div", { class: "end" });
    this.element = h("div", { class: "walk-end" }, this.cluster.field, this.picture);
    store.on("state", () => this.#show());
  }

  setRow(row) {
    this.row = row;
    this.#show();
    this.changed();
  }

  get place() {
    return this.row === null ? { cluster: Number(this.cluster.choice.value) } : { row: this.row };
  }

  #show() {
    const back = h("button", { class: "quiet", onclick: () => this.#leaveRow() }, "use the cluster instead");
    this.picture.replaceChildren(...(this.row === null ? [] : [h("img", { src: imageUrl(this.row), alt: `image in row ${this.row}` }), back]));
  }

  #leaveRow() {
    this.row = null;
    this.#show();
    this.changed();
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
      if (store.cluster === null || !this.shown) return;
      this.from.cluster.choice.value = String(store.cluster);
      this.from.setRow(null);
    });
    this.box.append(
      h("p", { class: "quiet" }, "The straight way between two places in latent space. An image's panel has “Walk from here” and “Walk to here”."),
      h("div", { class: "ends" }, this.from.element, this.to.element),
      h("div", { class: "walker" }, this.large, h("div", { class: "row" }, this.play, this.position)),
      this.strip);
  }

  show() {
    if (this.box.closest("[hidden]") || !store.state) return;
    if (!this.shown) this.#chooseEnds();
    this.redraw();
  }

  #chooseEnds() {
    this.shown = true;
    for (const end of [this.from, this.to]) end.cluster.fill();
    const [from, to] = [this.from.cluster.choice, this.to.cluster.choice];
    if (store.cluster !== null) from.value = String(store.cluster);
    to.selectedIndex = (from.selectedIndex + 1) % to.options.length;
  }

  async #redraw() {
    if (this.box.closest("[hidden]")) return; // it is drawn when it is shown
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
    const playing = this.timer === undefined;
    this.play.setAttribute("aria-pressed", playing);
    this.play.textContent = playing ? "Pause" : "Play";
    if (!playing) {
      clearInterval(this.timer);
      this.timer = undefined;
      return;
    }
    let forth = true;
    this.timer = setInterval(() => {
      const step = Number(this.position.value);
      if (step >= STEPS - 1) forth = false;
      if (step <= 0) forth = true;
      this.position.value = step + (forth ? 1 : -1);
      this.#showStep();
    }, 90);
  }
}

/** Moving along the latent dimensions, one slider each, the most active first. */
export class Dimensions {
  constructor() {
    this.box = byId("dimensions");
    this.row = null;
    this.offsets = [];
    this.cluster = clusterChoice("dimensions-cluster", "Start from");
    this.cluster.choice.addEventListener("change", () => {
      this.row = null;
      store.lookAtCluster(Number(this.cluster.choice.value));
      this.show();
    });
    store.on("cluster", () => {
      this.row = null;
      this.show();
    });
    this.base = h("div", { class: "end" });
    this.large = h("canvas", { class: "large", id: "latent-image", width: WIDTH, height: HEIGHT, role: "img", "aria-label": "the image at these offsets" });
    this.list = h("ol", { class: "dimensions" });
    this.box.append(
      h("p", { class: "quiet" }, "Offsets are in standard deviations of each dimension. Beside each slider: what it alone does, from −3 to 3."),
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
    if (this.box.closest("[hidden]") || !store.state) return;
    if (this.cluster.choice.options.length === 0) this.cluster.fill();
    if (store.cluster !== null) this.cluster.choice.value = String(store.cluster);
    this.base.replaceChildren(...(this.row === null ? [] : [h("img", { src: imageUrl(this.row), alt: `image in row ${this.row}` })]));
    this.reload();
  }

  get place() {
    return this.row === null ? { cluster: Number(this.cluster.choice.value) } : { row: this.row };
  }

  async #reload() {
    const strips = await postJson("/api/latent/strips", { from: this.place });
    const sheet = await decoded(strips.sheet);
    const columns = strips.offsets.length;
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
        const canvas = cut(sheet, line * columns + i, columns);
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
