// Pictures of the user's own: what the model says of them, and where they would lie on the map.

import { ApiError, decoded, start, upload } from "./api.js";
import { dot } from "./colours.js";
import { probabilityBars } from "./details.js";
import { byId, chance, count, h, say } from "./dom.js";
import { Grid } from "./grid.js";
import { store } from "./store.js";

const MAX_BYTES = 16 << 20;
const MOST = 40; // pictures at once

export class Drop {
  /** `open` shows the view, `toMap` the map with the pictures on it. */
  constructor(open, toMap) {
    this.result = byId("drop-result");
    this.toMap = toMap;
    this.round = 0;
    const file = byId("drop-file");
    file.addEventListener("change", () => {
      this.take([...file.files]);
      file.value = ""; // the same file can be chosen again
    });
    // The whole window takes pictures, so that nobody has to aim.
    window.addEventListener("dragover", (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      document.body.classList.add("dragging");
    });
    window.addEventListener("dragleave", (event) => !event.relatedTarget && document.body.classList.remove("dragging"));
    window.addEventListener("drop", (event) => {
      document.body.classList.remove("dragging");
      this.#bring(event, event.dataTransfer, open);
    });
    window.addEventListener("paste", (event) => !event.target.matches("input, textarea") && this.#bring(event, event.clipboardData, open));
  }

  #bring(event, { files }, open) {
    if (!files.length) return;
    event.preventDefault();
    open();
    this.take([...files]);
  }

  /** Ask about some files, one after the other; what was there before goes at once. */
  async take(files) {
    if (!files.length) return;
    const round = (this.round += 1);
    const asked = files.slice(0, MOST);
    const progress = h("p", { class: "quiet", role: "status" });
    this.result.replaceChildren(progress);
    const brought = [];
    for (const [i, file] of asked.entries()) {
      progress.textContent = `Reading ${file.name}, ${i + 1} of ${asked.length}`;
      const said = await answer(file);
      if (round !== this.round) return; // others have come meanwhile
      if (said.error) progress.before(h("section", { class: "brought" }, h("h3", { class: "id" }, file.name), h("p", { role: "alert", class: "error" }, said.error)));
      else {
        progress.before(await this.#card(file.name, said));
        if (said.position) brought.push({ name: file.name, cluster: said.cluster, position: said.position });
      }
    }
    const left = files.length - asked.length;
    progress.textContent = left ? `${count(left, "picture")} more than ${MOST} were left out.` : "";
    store.setBrought(brought);
    if (brought.length) this.result.prepend(h("div", { class: "tools" }, h("button", { type: "button", id: "brought-on-map", onclick: () => this.toMap(brought) }, brought.length === 1 ? "Show it on the map" : `Show these ${brought.length} on the map`)));
    if (asked.length > 1) say(`${count(asked.length, "picture")} read`);
    this.result.focus();
  }

  async #card(name, said) {
    const picture = async (base64, label) => {
      const canvas = h("canvas", { class: "large", width: start.model.width, height: start.model.height, role: "img", "aria-label": `${name} ${label}` });
      canvas.getContext("2d").drawImage(await decoded(base64), 0, 0);
      return h("figure", {}, canvas, h("figcaption", {}, label));
    };
    const [cluster, best] = said.probabilities[0];
    const moved = said.cluster !== cluster;
    const grid = Grid.passing(`Images nearest to ${name}`);
    const card = h("section", { class: "brought" },
      h("h3", { class: "id" }, name),
      h("h2", {}, dot(cluster, "big"), `${store.title(cluster)}, ${chance(best)}`),
      moved ? h("p", {}, `The model says cluster ${said.cluster}. Its images are mostly in ${store.title(cluster)} now.`) : "",
      said.unlike.length ? h("p", {}, `An outlier: ${said.unlike.join("; ")}.`) : "",
      h("div", { class: "pair" }, await picture(said.seen, "as the model sees it"), said.rebuilt ? await picture(said.rebuilt, "as its decoder rebuilds it") : ""),
      probabilityBars(said.probabilities.filter(([, p], i) => i < 3 || p >= 0.005)),
      said.steps.length ? h("p", { class: "quiet" }, said.steps.join("; ")) : "",
      ...(said.nearest.length ? [h("h3", {}, "Nearest images"), grid.element] : []));
    grid.add(said.nearest);
    return card;
  }
}

/** What the server says of a file, or why it says nothing. */
async function answer(file) {
  if (file.size > MAX_BYTES) return { error: "This file is larger than 16 MB." };
  try {
    return await upload(file);
  } catch (error) {
    if (error instanceof ApiError) return { error: error.message };
    throw error;
  }
}
