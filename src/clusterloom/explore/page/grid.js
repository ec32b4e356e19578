// Images in a grid that one can walk through with arrow keys, look at and choose from.

import { imageUrl } from "./api.js";
import { colour } from "./colours.js";
import { h, sureness } from "./dom.js";
import { CONFIRMED, OUTLIER, store } from "./store.js";

/** A listbox of images. Click or Enter looks at one; its corner, Ctrl and a click, or Space chooses it, Shift with a
 * click or an arrow all up to one; Ctrl A chooses all, Escape none. */
export class Grid {
  /** `all` gives the rows that Ctrl A chooses, where the grid does not hold all of them yet. */
  constructor(label, all = () => this.rows) {
    this.all = all;
    this.wasThere = false;
    this.element = h("div", { class: "grid", role: "listbox", "aria-multiselectable": "true", "aria-label": label });
    this.element.addEventListener("click", (event) => this.#click(event));
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.last = null;
    const listener = () => this.#hear(listener);
    for (const name of ["selection", "image"]) store.on(name, listener);
  }

  /** A grid that has gone for good hears of nothing any more. */
  #hear(listener) {
    if (this.isPassing && this.wasThere && !this.element.isConnected) {
      for (const name of ["selection", "image"]) store.removeEventListener(name, listener);
    } else this.#show();
  }

  /** A grid that is thrown away when it is taken out of the page. */
  static passing(label) {
    const grid = new Grid(label);
    grid.isPassing = true;
    return grid;
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
    this.wasThere = true;
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
    if (!option || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "a") return;
      event.preventDefault();
      store.select(this.all());
      return;
    }
    const columns = getComputedStyle(this.element).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (steps[event.key]) {
      const all = [...this.element.children];
      const to = all[all.indexOf(option) + steps[event.key]];
      if (to) this.#focus(to);
      if (to && event.shiftKey) {
        this.last ??= option;
        this.#chooseUpTo(to);
      } else if (to) this.last = null;
    } else if (event.key === "Home") this.#focus(this.element.firstElementChild);
    else if (event.key === "End") this.#focus(this.element.lastElementChild);
    else if (event.key === "Enter") store.lookAt(rowOf(option));
    else if (event.key === " ") store.toggle(rowOf(option));
    else if (event.key === "Escape" && store.selectedCount) store.select([]);
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
function tile({ row, id, cluster, probability, mark, distance }, option = emptyTile(row)) {
  const said = [sureness(probability), { [CONFIRMED]: probability === null ? "" : "kept by you", [OUTLIER]: "marked as an outlier" }[mark], distance === undefined ? "" : `distance ${distance.toFixed(2)}`].filter(Boolean).join(", ");
  option.setAttribute("aria-label", `${id}, ${store.title(cluster)}, ${said}`);
  option.title = `${id}\n${said}`;
  option.classList.toggle("outlier", mark === OUTLIER);
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
