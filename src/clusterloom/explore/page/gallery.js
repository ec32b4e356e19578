// The gallery: the images of a cluster, or of all, in an order; and what can be done with a cluster.

import { attempt, postJson, spriteUrl } from "./api.js";
import { openMerge, openSplit } from "./dialogs.js";
import { dot } from "./colours.js";
import { byId, chance, count, h, number, percent, refill, say } from "./dom.js";
import { Grid } from "./grid.js";
import { store } from "./store.js";

const FIRST = 60; // images that an opened cluster begins with
const NEXT = 120;
const MOST = 200; // that the server gives at once
const ORDERS = { typical: "Most typical first", doubtful: "Most doubtful first", score: "Worst explained first", data: "As in the data" };
const ALIKE = 0.1; // mean probability from which on two clusters are suggested to be one
const SUGGESTED = 4;
const TILE = 76; // side of a tile, CSS pixels

/** What is known of some rows, in their order. */
export async function briefs(rows) {
  const images = [];
  for (let at = 0; at < rows.length; at += MOST) {
    images.push(...(await (await postJson("/api/briefs", { rows: [...rows.slice(at, at + MOST)] })).images));
  }
  return images;
}

export class GalleryView {
  constructor() {
    this.box = byId("gallery");
    this.round = 0;
    this.places = new Map(); // how far down each address had been read: { loaded, scroll }
    this.head = new ClusterHead();
    this.grid = new Grid("Images", () => this.rows);
    this.progress = h("p", { class: "quiet", role: "status" });
    this.sentinel = h("div", { class: "sentinel" });
    this.order = h("select", { id: "order", onchange: () => this.#begin() });
    this.size = h("input", { type: "range", id: "tile-size", min: 40, max: 240, step: 4, value: recalledSize(), oninput: () => this.#resize() });
    this.bar = h("div", { class: "row" }, h("label", { class: "field" }, "Order", this.order), h("label", { class: "field" }, "Size", this.size), this.progress);
    this.observer = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.#more(), { rootMargin: "900px" });
    this.observer.observe(this.sentinel);
    for (const name of ["cluster", "labels", "filter"]) store.on(name, () => this.show());
    this.#resize();
  }

  /** Draw what is chosen, if this is the view that is open and it does not show that already. */
  show() {
    if (document.body.dataset.view !== "gallery" || !store.ready) return;
    const isSame = this.cluster === store.cluster;
    if (isSame && this.labels === store.labels && this.visible === store.visible) return;
    Object.assign(this, { cluster: store.cluster, labels: store.labels, visible: store.visible });
    this.round += 1; // what is still on its way is for what was there before
    if (isSame) this.#reload();
    else this.#open();
  }

  #open() {
    this.#offerOrders();
    this.#showHead();
    refill(this.box, this.cluster === null ? this.overview : this.head.element, this.bar, this.grid.element, this.sentinel);
    this.#begin();
  }

  #offerOrders() {
    const before = this.order.value || "typical";
    const possible = Object.entries(ORDERS).filter(([order]) => order !== "score" || store.columns.score);
    this.order.replaceChildren(...possible.map(([order, text]) => h("option", { value: order }, text)));
    this.order.value = before;
  }

  #showHead() {
    if (this.cluster === null) this.overview = overview(this.overview);
    else this.head.show(store.clusterOf(this.cluster));
  }

  #begin() {
    this.round += 1;
    this.rows = store.inOrder(this.cluster, this.order.value);
    this.grid.clear();
    this.progress.textContent = "";
    this.loaded = 0;
    this.#load(0, Math.max(FIRST, this.places.get(this.#place)?.loaded ?? 0));
  }

  /** The clusters or the filter have changed: as many images as were there, and no scrolling. */
  #reload() {
    const had = this.overview;
    this.#showHead();
    if (this.cluster === null && had !== this.overview) had?.replaceWith(this.overview);
    this.rows = store.inOrder(this.cluster, this.order.value);
    this.#load(0, Math.max(this.loaded, FIRST));
  }

  #more() {
    if (this.loading !== this.round && this.loaded < (this.rows?.length ?? 0)) this.#load(this.loaded, this.loaded + NEXT);
  }

  /** Images from one place in the order to another, after those before or, from 0, in place of all. */
  async #load(start, end) {
    const round = this.round;
    this.loading = round;
    const images = await attempt(() => briefs(this.rows.slice(start, end)));
    if (round !== this.round) return;
    this.loading = null;
    if (!images) return;
    if (start) this.grid.add(images);
    else this.grid.replace(images);
    this.loaded = start + images.length;
    this.progress.textContent = this.rows.length ? `${number(this.loaded)} of ${count(this.rows.length, "image")} shown` : "No image is here.";
    this.#comeBack();
    // What is still in sight tells nothing new to the observer, unless it is asked again.
    this.observer.unobserve(this.sentinel);
    this.observer.observe(this.sentinel);
  }

  // Where one was, for when one comes back.

  get #place() {
    return `${this.cluster}/${this.order.value}`;
  }

  /** Keep the place; `scroll` is how far down the view is. */
  leave(scroll) {
    if (this.rows) this.places.set(this.#place, { loaded: this.loaded, scroll });
  }

  /** Go back to where this cluster had been left, once its images are there. */
  comeBack(scroller) {
    this.scroller = scroller;
    if (this.loading === null) this.#comeBack();
  }

  #comeBack() {
    if (!this.scroller) return;
    this.scroller.scrollTop = this.places.get(this.#place)?.scroll ?? 0;
    this.scroller = null;
  }

  #resize() {
    this.grid.element.style.setProperty("--tile", `${this.size.value}px`);
    try {
      localStorage.setItem("clusterloom-tile", this.size.value);
    } catch {} // forbidden: the size is the usual one next time
  }
}

function recalledSize() {
  try {
    return Number(localStorage.getItem("clusterloom-tile")) || TILE;
  } catch {
    return TILE;
  }
}

/** All clusters at a glance: a card each, and which might be one. */
function overview(before) {
  const { clusters } = store.state;
  const isOpen = before?.querySelector("details")?.open ?? false;
  const cards = clusters.map((cluster) =>
    h("a", { id: `card-${cluster.number}`, class: "card", href: `#/gallery/${cluster.number}` },
      h("h3", {}, dot(cluster.number), cluster.title),
      h("p", { class: "quiet" }, count(cluster.size, "image"), cluster.confidence === null ? "" : `, mean probability ${chance(cluster.confidence)}`),
      cluster.typical.length ? h("img", { class: "strip", src: spriteUrl(cluster.typical.slice(0, 12)), alt: `typical images of ${cluster.title}`, loading: "lazy" }) : ""));
  return h("div", {}, h("h2", { tabindex: "-1" }, "All clusters"), suggestions(),
    h("details", { class: "at-a-glance", open: isOpen }, h("summary", {}, "Clusters at a glance"), h("div", { class: "cards" }, cards)));
}

/** Pairs of clusters whose images could as well be in the other one. */
function suggestions() {
  const pairs = new Map();
  for (const { number: k, next, next_share: share } of store.state.clusters) {
    if (next === null || share < ALIKE) continue;
    const key = [k, next].sort((a, b) => a - b).join();
    if (!pairs.has(key) || pairs.get(key)[2] < share) pairs.set(key, [k, next, share]);
  }
  const found = [...pairs.values()].sort((a, b) => b[2] - a[2]).slice(0, SUGGESTED);
  if (!found.length) return "";
  return h("ul", { class: "suggestions", "aria-label": "Clusters that might be one" }, found.map(([k, into, share]) =>
    h("li", {}, h("span", {}, dot(k), store.title(k), " and ", dot(into), `${store.title(into)} might be one: the model gives images of the first ${percent(share)} for the second, on average`),
      h("button", { type: "button", onclick: () => openMerge(store.clusterOf(k), into) }, "Look at both…"))));
}

/** A cluster's title, and what can be done with it. It stays the same elements, so that nobody loses the focus. */
class ClusterHead {
  constructor() {
    this.title = h("h2", { tabindex: "-1" });
    this.name = h("input", { type: "text", id: "cluster-name", maxlength: 80, autocomplete: "off" });
    this.merge = h("button", { type: "button", id: "merge", onclick: () => openMerge(this.cluster) }, "Merge…");
    this.naming = h("form", { onsubmit: (event) => this.#rename(event) }, h("label", { for: "cluster-name", class: "unseen" }, "Name of this cluster"), this.name, h("button", {}, "Rename"));
    this.element = h("div", { class: "cluster-head" }, this.title,
      h("div", { class: "tools" },
        this.naming,
        this.merge,
        h("button", { type: "button", id: "split", onclick: () => openSplit(this.cluster) }, "Split…"),
        h("button", { type: "button", id: "select-all", onclick: () => this.#selectAll() }, "Select all"),
        h("a", { id: "review-cluster", class: "button" }, "Review its doubtful images")));
  }

  show(cluster) {
    const isOther = cluster.number !== this.cluster?.number;
    this.cluster = cluster;
    const facts = [count(cluster.size, "image"), cluster.changed && `${number(cluster.changed)} from other clusters`, cluster.looked_at && `${number(cluster.looked_at)} looked at`];
    this.title.replaceChildren(dot(cluster.number, "big"), cluster.title, h("span", { class: "quiet" }, ` ${facts.filter(Boolean).join(", ")}`));
    this.name.placeholder = `cluster ${cluster.number}`;
    this.name.defaultValue = cluster.name; // what is being typed stays
    if (isOther) this.naming.reset();
    const isAlone = store.state.clusters.length < 2;
    if (isAlone && this.merge === document.activeElement) this.title.focus();
    this.merge.disabled = isAlone;
    this.element.querySelector("#review-cluster").href = `#/review/${cluster.number}`;
  }

  async #rename(event) {
    event.preventDefault();
    const text = this.name.value.trim();
    const done = text ? `Cluster ${this.cluster.number} is called “${text}”` : "The name is gone";
    if (!(await store.edit({ op: "name", cluster: this.cluster.number, name: text }, done))) return;
    if (this.name.value.trim() !== text) return; // the next name is being typed already
    this.naming.reset();
    if (this.name === document.activeElement) this.title.focus(); // in a text, Ctrl Z would undo the typing
  }

  #selectAll() {
    store.select(store.rowsOf(this.cluster.number));
    say(`${count(store.selectedCount, "image")} selected`);
  }
}
