// The queue of doubt: one image after the other, those whose answer tells most first, and a key for what to do with each.

import { attempt, getJson, imageUrl, postJson } from "./api.js";
import { dot } from "./colours.js";
import { probabilityBars } from "./details.js";
import { byId, chance, count, h, number, refill, whisper } from "./dom.js";
import { store } from "./store.js";

const BESIDE = 8; // nearest images of each of the two clusters
const SURE = 0.8; // below it the model's word is counted as a doubt

export class ReviewView {
  constructor() {
    this.box = byId("review");
    this.skipped = new Set();
    this.known = new Map(); // row -> what the server says of it, asked for ahead of time
    this.busy = false;
    for (const name of ["cluster", "labels", "filter"]) store.on(name, () => this.show());
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  get #isOpen() {
    return document.body.dataset.view === "review" && store.ready;
  }

  /** Show the next image that nobody has looked at. */
  async show() {
    if (this.#isOpen && !store.columns.question) {
      refill(this.box, h("p", { class: "quiet", role: "status" }, "Working out what to ask first…"));
      await attempt(() => store.need("question"));
    }
    if (!this.#isOpen || !store.columns.question) return;
    if (this.labels !== store.labels) this.known.clear();
    if (this.cluster !== store.cluster || this.visible !== store.visible) this.skipped.clear();
    Object.assign(this, { labels: store.labels, cluster: store.cluster, visible: store.visible });
    const queue = store.inOrder(store.cluster, "question");
    const open = queue.filter((row) => store.marks[row] === 0 && !this.skipped.has(row));
    const [row, next] = open;
    this.row = row ?? null;
    if (this.row === null) {
      this.#showEnd(queue.length);
      return;
    }
    const about = await attempt(() => this.#ask(row));
    if (next !== undefined) this.#ask(next).catch(() => {});
    if (about && row === this.row && this.#isOpen) this.#draw(about, queue, open);
  }

  #ask(row) {
    if (!this.known.has(row)) {
      const asked = this.#load(row);
      this.known.set(row, asked);
      asked.catch(() => this.known.delete(row)); // the next time the server may be there
    }
    return this.known.get(row);
  }

  async #load(row) {
    const details = await getJson(`/api/images/${row}`);
    const other = details.probabilities.find(([k]) => k !== details.cluster);
    const near = (cluster) => postJson("/api/similar", { rows: [row], n: BESIDE, cluster });
    const [own, others] = await Promise.all([near(details.cluster), other ? near(other[0]) : { images: [] }]);
    return { details, runnerUp: other?.[0] ?? null, own: own.images, others: others.images };
  }

  #draw({ details, runnerUp, own, others }, queue, open) {
    const marked = queue.reduce((count, row) => count + (store.marks[row] ? 1 : 0), 0);
    const doubts = open.reduce((count, row) => count + (store.columns.confidence[row] < SURE ? 1 : 0), 0);
    const key = (text, name, act, props = {}) => h("button", { type: "button", "aria-keyshortcuts": name, onclick: act, ...props }, text, h("kbd", { "aria-hidden": "true" }, name));
    const to = h("select", { id: "review-to", "aria-label": "Move to another cluster", onchange: () => to.value !== "" && this.#move(to.value === "new" ? store.state.next_number : Number(to.value)) },
      h("option", { value: "" }, "Move to…"),
      store.state.clusters.filter(({ number: k }) => k !== details.cluster).map(({ number: k, title }) => h("option", { value: k }, k < 10 ? `${title} (${k})` : title)),
      h("option", { value: "new" }, "a new cluster"));
    const near = (cluster, images) => h("section", {}, h("h3", {}, dot(cluster), `Nearest in ${store.title(cluster)}`),
      images.length ? h("div", { class: "grid small" }, images.map(({ row, id }) => h("div", { class: "tile" }, h("img", { src: imageUrl(row), alt: id, title: id })))) : h("p", { class: "quiet" }, "no other image"));
    const title = h("h2", { class: "id", tabindex: "-1" }, details.id);
    const undo = key(store.state.undo ? `Undo: ${store.state.undo}` : "Undo", "Z", () => byId("undo").click(), { disabled: !store.state.undo, id: "review-undo" });
    refill(this.box,
      h("div", { class: "review-progress" },
        h("progress", { max: queue.length, value: marked, "aria-label": "Images looked at" }),
        h("p", { class: "quiet", id: "review-progress" }, `${number(marked)} of ${count(queue.length, "image")} looked at${this.skipped.size ? `, ${number(this.skipped.size)} skipped` : ""}; ${doubts ? `${number(doubts)} below ${chance(SURE)} to come` : `none below ${chance(SURE)} is left`}`)),
      h("div", { class: "review-image" },
        h("div", {},
          h("img", { class: "huge", src: imageUrl(details.row), alt: `image ${details.id}` }),
          title,
          h("p", {}, dot(details.cluster), `${details.title}, ${details.probability === null ? "moved by hand" : chance(details.probability)}`),
          probabilityBars(details.probabilities.filter(([, p], i) => i < 2 || p >= 0.02))),
        h("div", { class: "review-near" }, near(details.cluster, own), runnerUp === null ? "" : near(runnerUp, others))),
      h("div", { class: "tools review-tools", role: "toolbar", "aria-label": "What to do with this image" },
        key(`Keep in ${details.title}`, "K", () => this.#keep(), { id: "review-keep", class: "primary" }),
        runnerUp === null ? "" : key(`Move to ${store.title(runnerUp)}`, "M", () => this.#move(runnerUp), { id: "review-move" }),
        to,
        key("Outlier", "O", () => this.#outlier(), { id: "review-outlier" }),
        key("Skip", "S", () => this.#skip(), { id: "review-skip" }),
        undo),
      h("p", { class: "quiet" }, "The figures 0 to 9 move the image to the cluster of that number. Every answer is in the journal at once."));
    this.about = { details, runnerUp };
    whisper(`${details.id}, ${details.title}, ${details.probability === null ? "moved by hand" : chance(details.probability)}`);
  }

  #showEnd(total) {
    const again = h("button", { type: "button", onclick: () => {
      this.skipped.clear();
      this.show();
    } }, `Look at the ${number(this.skipped.size)} skipped ones`);
    refill(this.box, h("h2", { tabindex: "-1" }, "Nothing is left"), h("p", {}, `All of ${count(total, "image")} have been looked at${this.skipped.size ? ", or skipped" : ""}.`), this.skipped.size ? again : "");
    this.about = null;
  }

  #keep() {
    this.#answer({ op: "confirm", rows: [this.row], clusters: [this.about?.details.cluster] }, "kept");
  }

  #outlier() {
    this.#answer({ op: "outlier", rows: [this.row] }, "marked as an outlier");
  }

  #move(to) {
    this.#answer({ op: "move", rows: [this.row], to }, `moved to ${store.title(to)}`);
  }

  #skip() {
    if (this.busy || this.row === null) return;
    this.skipped.add(this.row);
    this.show();
  }

  /** Of keys that come faster than answers, those in between are for an image that nobody has seen: they are left out. */
  async #answer(edit, done) {
    if (this.busy || !this.about || this.about.details.row !== edit.rows[0]) return;
    this.busy = true;
    try {
      await store.edit(edit, `${this.about.details.id} ${done}`);
    } finally {
      this.busy = false;
    }
  }

  #key(event) {
    if (!this.#isOpen || event.ctrlKey || event.metaKey || event.altKey || event.repeat || byId("dialog").open) return;
    if (event.target.matches("input, select, textarea") || this.about?.details.row !== this.row) return; // not there yet
    const name = event.key.toLowerCase();
    const { runnerUp, details } = this.about;
    if (name === "k") this.#keep();
    else if (name === "m" && runnerUp !== null) this.#move(runnerUp);
    else if (name === "o") this.#outlier();
    else if (name === "s") this.#skip();
    else if (name === "z") byId("undo").click();
    else if (/^\d$/.test(name) && store.clusterOf(Number(name)) && Number(name) !== details.cluster) this.#move(Number(name));
    else return;
    event.preventDefault();
  }
}
