// Images in a grid that one can walk through with arrow keys, look at and choose from; and the gallery of a cluster.

import { attempt, getJson, imageUrl, postJson, spriteUrl } from "./api.js";
import { colour, dot } from "./colours.js";
import { byId, count, fillClusters, h, number, percent, refill, say, sureness } from "./dom.js";
import { store } from "./store.js";

const FIRST = 60; // images that an opened cluster begins with
const NEXT = 120;
const MOST = 200; // that the server gives at once

/** A listbox of images. Click or Enter looks at one; its corner, Ctrl and a click, or Space chooses it. */
export class Grid {
  constructor(label) {
    this.element = h("div", { class: "grid", role: "listbox", "aria-multiselectable": "true", "aria-label": label });
    this.element.addEventListener("click", (event) => this.#click(event));
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.last = null;
    store.on("selection", () => this.#show());
    store.on("image", () => this.#show());
  }

  clear() {
    this.element.replaceChildren();
    this.last = null;
  }

  add(images) {
    const first = this.element.childElementCount === 0;
    this.element.append(...images.map((image) => tile(image)));
    if (first && this.element.firstElementChild) this.element.firstElementChild.tabIndex = 0;
    this.#show();
  }

  /** Show these instead. Images that stay keep their tiles; who was at one that goes is then at its place. */
  replace(images) {
    const tiles = new Map([...this.element.children].map((option) => [rowOf(option), option]));
    const current = this.element.querySelector('[tabindex="0"]');
    const place = [...tiles.values()].indexOf(current);
    const isFocused = current !== null && current === document.activeElement;
    const staying = new Set(images.map(({ row }) => row));
    for (const [row, option] of tiles) if (!staying.has(row)) option.remove();
    // Only what has another place is moved: without its tiles, the grid would lose the focus and where it is scrolled to.
    images.forEach((image, i) => {
      const option = tile(image, tiles.get(image.row));
      const there = this.element.children[i] ?? null;
      if (option !== there) this.element.insertBefore(option, there);
    });
    if (!this.last?.isConnected) this.last = null;
    const next = current?.isConnected ? current : this.element.children[Math.min(Math.max(place, 0), images.length - 1)];
    if (next) next.tabIndex = 0;
    if (isFocused) next?.focus({ preventScroll: true });
    this.#show();
  }

  get rows() {
    return [...this.element.children].map(rowOf);
  }

  #show() {
    if (!this.element.isConnected) return;
    for (const option of this.element.children) {
      const row = rowOf(option);
      option.setAttribute("aria-selected", store.selected[row] === 1);
      option.classList.toggle("current", row === store.image);
    }
  }

  #click(event) {
    const option = event.target.closest(".tile");
    if (!option) return;
    this.#focus(option);
    if (event.shiftKey && this.last) this.#chooseUpTo(option);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".tick")) store.toggle(rowOf(option));
    else store.lookAt(rowOf(option));
    this.last = option;
  }

  #chooseUpTo(option) {
    const all = [...this.element.children];
    const [a, b] = [all.indexOf(this.last), all.indexOf(option)].sort((x, y) => x - y);
    store.select(all.slice(a, b + 1).map(rowOf), true);
  }

  #key(event) {
    const option = event.target.closest(".tile");
    if (!option) return;
    const columns = getComputedStyle(this.element).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (steps[event.key]) {
      const all = [...this.element.children];
      const to = all[all.indexOf(option) + steps[event.key]];
      if (to) this.#focus(to);
    } else if (event.key === "Home") this.#focus(this.element.firstElementChild);
    else if (event.key === "End") this.#focus(this.element.lastElementChild);
    else if (event.key === "Enter") store.lookAt(rowOf(option));
    else if (event.key === " ") store.toggle(rowOf(option));
    else return;
    event.preventDefault();
  }

  #focus(option) {
    for (const other of this.element.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    option.tabIndex = 0;
    option.focus();
  }
}

const rowOf = (option) => Number(option.dataset.row);

/** The tile of an image, in place of what an earlier one of the same image showed. */
function tile({ row, id, cluster, probability }, option = emptyTile(row)) {
  const sure = sureness(probability);
  option.setAttribute("aria-label", `${id}, ${store.title(cluster)}, ${sure}`);
  option.title = `${id}\n${sure}`;
  Object.assign(option.querySelector(".bar").style, { width: `${100 * (probability ?? 0)}%`, background: colour(cluster) });
  return option;
}

function emptyTile(row) {
  const option = h("div", { class: "tile", role: "option", tabindex: "-1", "aria-selected": "false" },
    h("img", { src: imageUrl(row), alt: "", loading: "lazy", decoding: "async" }),
    h("span", { class: "tick", "aria-hidden": "true" }),
    h("span", { class: "bar", "aria-hidden": "true" }));
  option.dataset.row = row;
  return option;
}

/** The view of one cluster's images, or of all clusters at a glance. */
export class GalleryView {
  constructor() {
    this.box = byId("gallery");
    this.order = "typical";
    this.round = 0;
    this.head = new ClusterHead();
    this.grid = new Grid("Images of this cluster");
    this.progress = h("p", { class: "quiet", role: "status" });
    this.sentinel = h("div", { class: "sentinel" });
    this.orders = h("fieldset", { class: "segments" }, h("legend", { class: "unseen" }, "Order"),
      ...[["typical", "Most typical first"], ["doubtful", "Most doubtful first"]].map(([order, text]) =>
        h("label", {}, h("input", { type: "radio", name: "order", value: order, checked: order === this.order, onchange: () => this.#reorder(order) }), h("span", {}, text))));
    this.observer = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.#more(), { rootMargin: "900px" });
    this.observer.observe(this.sentinel);
    for (const name of ["cluster", "labels"]) store.on(name, () => this.show());
  }

  /** Draw what is chosen, if this is the view that is open and it does not show that already. */
  show() {
    if (document.body.dataset.view !== "gallery" || !store.ready) return;
    const isSame = this.cluster === store.cluster;
    if (isSame && this.labels === store.labels) return;
    this.cluster = store.cluster;
    this.labels = store.labels;
    this.round += 1; // what is still on its way is for what was there before
    if (this.cluster === null) this.#overview();
    else if (isSame) this.#reload();
    else this.#open();
  }

  #overview() {
    const cards = store.state.clusters.map((cluster) =>
      h("a", { id: `card-${cluster.number}`, class: "card", href: `#/gallery/${cluster.number}` },
        h("h3", {}, dot(cluster.number), cluster.title),
        h("p", { class: "quiet" }, count(cluster.size, "image"), cluster.confidence === null ? "" : `, mean probability ${percent(cluster.confidence)}`),
        cluster.typical.length ? h("img", { class: "strip", src: spriteUrl(cluster.typical.slice(0, 12)), alt: `typical images of ${cluster.title}`, loading: "lazy" }) : ""));
    refill(this.box, h("h2", { tabindex: "-1" }, "All clusters"), h("p", { class: "quiet" }, "The most typical images of each. Choose one to see all of its images, name, merge or split it."), h("div", { class: "cards" }, cards));
  }

  #open() {
    this.head.show(store.clusterOf(this.cluster));
    refill(this.box, this.head.element, h("div", { class: "row" }, this.orders, this.progress), this.grid.element, this.sentinel);
    this.#begin();
  }

  #begin() {
    this.grid.clear();
    this.progress.textContent = "";
    this.loaded = 0;
    this.total = Infinity;
    this.#load(0, FIRST);
  }

  #reorder(order) {
    this.order = order;
    this.round += 1;
    this.#begin();
  }

  /** The cluster has changed: as many of its images as were there, and no scrolling. */
  #reload() {
    this.head.show(store.clusterOf(this.cluster));
    this.#load(0, Math.max(this.loaded, FIRST));
  }

  #more() {
    if (this.loading !== this.round && this.loaded < this.total) this.#load(this.loaded, this.loaded + NEXT);
  }

  /** Images from one place in the order to another, after those before or, from 0, in place of all. */
  async #load(start, end) {
    const round = this.round;
    this.loading = round;
    const images = [];
    let page;
    do {
      const at = start + images.length;
      page = await attempt(() => getJson(`/api/clusters/${this.cluster}?order=${this.order}&start=${at}&n=${Math.min(end - at, MOST)}`));
      if (round !== this.round) return;
      images.push(...(page?.images ?? []));
    } while (page?.images.length && start + images.length < Math.min(end, page.total));
    this.loading = null;
    if (!page) return;
    if (start) this.grid.add(images);
    else this.grid.replace(images);
    this.loaded = start + images.length;
    this.total = page.images.length ? page.total : this.loaded;
    this.progress.textContent = this.total ? `${number(this.loaded)} of ${count(this.total, "image")} shown` : "No images are in this cluster.";
    // What is still in sight tells nothing new to the observer, unless it is asked again.
    this.observer.unobserve(this.sentinel);
    this.observer.observe(this.sentinel);
  }
}

/** A cluster's title, and what can be done with it. It stays the same elements, so that nobody loses the focus. */
class ClusterHead {
  constructor() {
    this.title = h("h2", { tabindex: "-1" });
    this.name = h("input", { type: "text", id: "cluster-name", maxlength: 80, autocomplete: "off" });
    this.into = h("select", { id: "merge-with" });
    this.merge = h("button", {}, "Merge");
    this.naming = h("form", { onsubmit: (event) => this.#rename(event) }, h("label", { for: "cluster-name", class: "unseen" }, "Name of this cluster"), this.name, h("button", {}, "Rename"));
    this.element = h("div", { class: "cluster-head" }, this.title,
      h("div", { class: "tools" },
        this.naming,
        h("form", { onsubmit: (event) => this.#merge(event) }, h("label", { for: "merge-with" }, "Merge with"), this.into, this.merge),
        h("button", { type: "button", id: "split", onclick: () => openSplit(this.cluster) }, "Split…"),
        h("button", { type: "button", id: "select-all", onclick: () => this.#selectAll() }, "Select all")));
  }

  show(cluster) {
    const isOther = cluster.number !== this.cluster?.number;
    this.cluster = cluster;
    this.title.replaceChildren(dot(cluster.number, "big"), cluster.title,
      h("span", { class: "quiet" }, ` ${count(cluster.size, "image")}${cluster.changed ? `, ${number(cluster.changed)} from other clusters` : ""}`));
    this.name.placeholder = `cluster ${cluster.number}`;
    this.name.defaultValue = cluster.name; // what is being typed stays
    if (isOther) this.naming.reset();
    const others = store.state.clusters.filter((other) => other.number !== cluster.number);
    fillClusters(this.into, others);
    if (others.length === 0 && this.merge === document.activeElement) this.title.focus();
    this.merge.disabled = others.length === 0;
  }

  async #rename(event) {
    event.preventDefault();
    const text = this.name.value.trim();
    const done = text ? `Cluster ${this.cluster.number} is called “${text}”` : "The name is gone";
    if (!(await store.edit({ op: "name", cluster: this.cluster.number, name: text }, done))) return;
    this.naming.reset();
    if (this.name === document.activeElement) this.title.focus(); // in a text, Ctrl Z would undo the typing
  }

  async #merge(event) {
    event.preventDefault();
    const other = Number(this.into.value);
    await store.edit({ op: "merge", clusters: [this.cluster.number, other], into: this.cluster.number }, `${store.title(other)} is now part of ${this.cluster.title}`);
  }

  #selectAll() {
    store.select(store.rowsOf(this.cluster.number));
    say(`${count(store.selectedCount, "image")} selected`);
  }
}

/** Show the two parts that a cluster would fall into, and split it if the user says so. */
async function openSplit(cluster) {
  const preview = await attempt(() => postJson("/api/split", { cluster: cluster.number }));
  if (!preview) return;
  const dialog = byId("dialog");
  const part = (title, size, images) => h("section", {}, h("h3", {}, title, h("span", { class: "quiet" }, ` ${count(size, "image")}`)),
    h("div", { class: "grid small" }, images.map(({ row, id }) => h("div", { class: "tile" }, h("img", { src: imageUrl(row), alt: id })))));
  const take = async () => {
    dialog.close();
    const done = `${cluster.title} has been split; cluster ${preview.new} is new`;
    await store.edit({ op: "split", cluster: cluster.number, rows: preview.rows, new: preview.new }, done, preview.revision);
  };
  dialog.replaceChildren(
    h("h2", { id: "dialog-title" }, `Split ${cluster.title}?`),
    h("p", { class: "quiet" }, "A mixture of two normal distributions on its latents. The most typical images of both parts:"),
    h("div", { class: "halves" }, part("stays", preview.sizes[0], preview.images[0]), part(`becomes cluster ${preview.new}`, preview.sizes[1], preview.images[1])),
    h("div", { class: "row end" }, h("button", { onclick: () => dialog.close() }, "Leave it"), h("button", { class: "primary", onclick: take }, "Split")),
  );
  dialog.showModal();
}
