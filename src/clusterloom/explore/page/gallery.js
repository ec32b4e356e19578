// Images in a grid that one can walk through with arrow keys, look at and choose from; and the gallery of a cluster.

import { attempt, getJson, imageUrl, postJson, spriteUrl } from "./api.js";
import { colour, dot } from "./colours.js";
import { byId, count, h, number, percent, say } from "./dom.js";
import { store } from "./store.js";

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

function tile({ row, id, cluster, probability, changed }) {
  const text = `${id}, ${store.title(cluster)}, ${percent(probability)}${changed ? ", moved here by hand" : ""}`;
  const option = h("div", { class: "tile", role: "option", tabindex: "-1", "aria-selected": "false", "aria-label": text, title: `${id}\n${percent(probability)}` },
    h("img", { src: imageUrl(row), alt: "", loading: "lazy", decoding: "async" }),
    h("span", { class: "tick", "aria-hidden": "true" }),
    h("span", { class: "bar", "aria-hidden": "true", style: { width: `${100 * probability}%`, background: colour(cluster) } }));
  option.dataset.row = row;
  return option;
}

/** The view of one cluster's images, or of all clusters at a glance. */
export class GalleryView {
  constructor() {
    this.box = byId("gallery");
    this.order = "typical";
    this.round = 0;
    for (const name of ["cluster", "labels"]) store.on(name, () => this.show());
    store.on("state", () => this.#refreshHead());
  }

  /** Draw it, if it is the view that is open. */
  show() {
    if (this.box.hidden || !store.ready) return;
    this.round += 1;
    this.observer?.disconnect();
    if (store.cluster === null) this.#overview();
    else this.#cluster(store.cluster);
  }

  #overview() {
    const cards = store.state.clusters.map((cluster) =>
      h("a", { class: "card", href: `#/gallery/${cluster.number}` },
        h("h3", {}, dot(cluster.number), cluster.title),
        h("p", { class: "quiet" }, count(cluster.size, "image"), cluster.size ? `, mean probability ${percent(cluster.confidence)}` : ""),
        cluster.typical.length ? h("img", { class: "strip", src: spriteUrl(cluster.typical.slice(0, 12)), alt: `typical images of ${cluster.title}`, loading: "lazy" }) : ""));
    this.box.replaceChildren(h("h2", {}, "All clusters"), h("p", { class: "quiet" }, "The most typical images of each. Choose one to see all of its images, name, merge or split it."), h("div", { class: "cards" }, cards));
    this.head = null;
  }

  #cluster(number) {
    this.grid = new Grid("Images of this cluster");
    this.progress = h("p", { class: "quiet", role: "status" });
    this.sentinel = h("div", { class: "sentinel" });
    this.head = h("div", { class: "cluster-head" });
    const orders = h("fieldset", { class: "segments" }, h("legend", { class: "unseen" }, "Order"),
      ...[["typical", "Most typical first"], ["doubtful", "Most doubtful first"]].map(([order, text]) =>
        h("label", {}, h("input", { type: "radio", name: "order", value: order, checked: order === this.order, onchange: () => this.#reorder(order) }), h("span", {}, text))));
    this.box.replaceChildren(this.head, h("div", { class: "row" }, orders, this.progress), this.grid.element, this.sentinel);
    this.#refreshHead();
    this.loaded = 0;
    this.total = Infinity;
    const round = this.round;
    this.observer = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && this.#more(number, round), { rootMargin: "900px" });
    this.observer.observe(this.sentinel);
  }

  #reorder(order) {
    this.order = order;
    this.show();
    this.box.querySelector(`input[value="${order}"]`)?.focus();
  }

  async #more(number_, round) {
    if (this.loading === round || this.loaded >= this.total) return;
    this.loading = round;
    const query = `order=${this.order}&start=${this.loaded}&n=${this.loaded ? 120 : 60}`;
    const page = await attempt(() => getJson(`/api/clusters/${number_}?${query}`));
    this.loading = null;
    if (!page || round !== this.round) return;
    this.grid.add(page.images);
    this.loaded += page.images.length;
    this.total = page.images.length ? page.total : this.loaded;
    this.progress.textContent = this.total ? `${number(this.loaded)} of ${count(this.total, "image")} shown` : "No images are in this cluster.";
    // What is still in sight tells nothing new to the observer, unless it is asked again.
    this.observer.unobserve(this.sentinel);
    this.observer.observe(this.sentinel);
  }

  #refreshHead() {
    if (!this.head?.isConnected || store.cluster === null || this.head.contains(document.activeElement)) return;
    const cluster = store.clusterOf(store.cluster);
    if (cluster) this.head.replaceChildren(...clusterHead(cluster));
  }
}

function clusterHead(cluster) {
  const name = h("input", { type: "text", id: "cluster-name", value: cluster.name, maxlength: 80, placeholder: `cluster ${cluster.number}`, autocomplete: "off" });
  const others = store.state.clusters.filter((other) => other.number !== cluster.number);
  const into = h("select", { id: "merge-with" }, others.map((other) => h("option", { value: other.number }, other.title)));
  const rename = async (event) => {
    event.preventDefault();
    const text = name.value.trim();
    name.blur();
    await store.edit({ op: "name", cluster: cluster.number, name: text }, text ? `Cluster ${cluster.number} is called “${text}”` : "The name is gone");
  };
  const merge = async (event) => {
    event.preventDefault();
    into.blur();
    event.submitter?.blur();
    const other = Number(into.value);
    await store.edit({ op: "merge", clusters: [cluster.number, other], into: cluster.number }, `${store.title(other)} is now part of ${cluster.title}`);
  };
  return [
    h("h2", {}, dot(cluster.number, "big"), cluster.title,
      h("span", { class: "quiet" }, ` ${count(cluster.size, "image")}${cluster.changed ? `, ${number(cluster.changed)} from other clusters` : ""}`)),
    h("div", { class: "tools" },
      h("form", { onsubmit: rename }, h("label", { for: "cluster-name", class: "unseen" }, "Name of this cluster"), name, h("button", {}, "Rename")),
      h("form", { onsubmit: merge }, h("label", { for: "merge-with" }, "Merge with"), into, h("button", { disabled: others.length === 0 }, "Merge")),
      h("button", { type: "button", id: "split", onclick: () => openSplit(cluster) }, "Split…"),
      h("button", { type: "button", id: "select-all", onclick: () => {
        store.select(store.rowsOf(cluster.number));
        say(`${count(store.selectedCount, "image")} selected`);
      } }, "Select all")),
  ];
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
    const fresh = store.state.next_number;
    await store.edit({ op: "split", cluster: cluster.number, rows: preview.rows, new: fresh }, `${cluster.title} has been split; cluster ${fresh} is new`);
  };
  dialog.replaceChildren(
    h("h2", { id: "dialog-title" }, `Split ${cluster.title}?`),
    h("p", { class: "quiet" }, "A mixture of two normal distributions on its latents. The most typical images of both parts:"),
    h("div", { class: "halves" }, part("stays", preview.sizes[0], preview.images[0]), part(`becomes cluster ${store.state.next_number}`, preview.sizes[1], preview.images[1])),
    h("div", { class: "row end" }, h("button", { onclick: () => dialog.close() }, "Leave it"), h("button", { class: "primary", onclick: take }, "Split")),
  );
  dialog.showModal();
}
