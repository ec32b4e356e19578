// A picture of the user's own: what the model says of it.

import { attempt, decoded, start, upload } from "./api.js";
import { dot } from "./colours.js";
import { probabilityBars } from "./details.js";
import { byId, h, percent } from "./dom.js";
import { Grid } from "./gallery.js";
import { store } from "./store.js";

const MAX_BYTES = 16 << 20;

export class Drop {
  constructor(open) {
    this.result = byId("drop-result");
    this.zone = byId("drop-zone");
    const file = byId("drop-file");
    this.grid = new Grid("Nearest images");
    file.addEventListener("change", () => file.files[0] && this.take(file.files[0]));
    // The whole window takes a picture, so that nobody has to aim.
    window.addEventListener("dragover", (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      document.body.classList.add("dragging");
    });
    window.addEventListener("dragleave", (event) => !event.relatedTarget && document.body.classList.remove("dragging"));
    window.addEventListener("drop", (event) => {
      document.body.classList.remove("dragging");
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      open();
      this.take(event.dataTransfer.files[0]);
    });
  }

  async take(file) {
    if (file.size > MAX_BYTES) {
      this.result.replaceChildren(h("p", { role: "alert" }, "This file is larger than 16 MB."));
      return;
    }
    const said = await attempt(() => upload(file));
    if (!said) return;
    const picture = async (base64, label) => {
      const canvas = h("canvas", { class: "large", width: start.model.width, height: start.model.height, role: "img", "aria-label": label });
      canvas.getContext("2d").drawImage(await decoded(base64), 0, 0);
      return h("figure", {}, canvas, h("figcaption", {}, label));
    };
    const [, best] = said.probabilities[0];
    const cluster = store.state.heirs?.[said.cluster] ?? said.cluster;
    this.grid.clear();
    this.result.replaceChildren(
      h("h2", {}, dot(cluster, "big"), cluster === said.cluster ? `${store.title(cluster)}, ${percent(best)}` : store.title(cluster)),
      cluster === said.cluster ? "" : h("p", {}, `The model says cluster ${said.cluster}, ${percent(best)}. Its images are mostly in ${store.title(cluster)} now.`),
      said.outlier ? h("p", {}, "An outlier: the model has hardly seen anything like it.") : "",
      h("div", { class: "pair" }, await picture(said.seen, "as the model sees it"), said.rebuilt ? await picture(said.rebuilt, "as it rebuilds it") : ""),
      probabilityBars(said.probabilities.filter(([, p], i) => i < 3 || p >= 0.005)),
      said.steps.length ? h("p", { class: "quiet" }, said.steps.join("; ")) : "",
      ...(said.nearest.length ? [h("h3", {}, "Nearest images"), this.grid.element] : []));
    this.grid.add(said.nearest);
    this.result.focus();
  }
}
