// The map: points, thumbnails when close, hover, lasso, and the same by keyboard.

import { select } from "d3-selection";
import { zoom, zoomIdentity, zoomTransform } from "d3-zoom";
import KDBush from "kdbush";

import { getJson, imageUrl, start } from "../api.js";
import { colour, dot, GROUPINGS, labelDot, rowColour } from "../colours.js";
import { byId, count, debounced, h, percent, sureness, whisper } from "../dom.js";
import { store } from "../store.js";
import { FlatPoints } from "./flat.js";
import { rowsInside } from "./lasso.js";
import { WebGLPoints } from "./points.js";
import { Thumbnails } from "./thumbnails.js";
import { placed } from "./titles.js";

const MARGIN = 28; // CSS pixels around the whole map
const TOOLS = 72; // room at the top for the buttons, and below them for the name of the uppermost cluster
const CELL = 38; // side of a thumbnail's cell, CSS pixels, when its zoom level begins; twice that when it ends
const CROWD = 4; // points for each cell in view up to which thumbnails are shown: more would hide each other
const FIELDS = 48; // of the whole map, to each side, of which it is known how many points they have
const GAP = 2; // between thumbnails, CSS pixels
const TINY = Math.max(start.model.width, start.model.height) <= 48; // pixels that are meant to be seen
const LEGEND = 16; // labels that a legend names
const REACH = 14; // how far from a point the pointer may be, CSS pixels
const DENSE = 200_000; // points from which on they become fainter the more they are, so that density shows
const NEAREST = 400; // times as near as the whole map
const STEP = 80;
const ABOVE = 14; // how far over its images a cluster's name stands, CSS pixels
const USUAL = 800; // side of the whole map, CSS pixels, that sizes of dots are meant for

const NARROW = 0.03; // of the map, to either side of a cluster's middle, where its upper edge is looked for
const REACHING = 0.12; // above its middle: what lies further up is another part of it

export class MapView {
  constructor() {
    this.box = byId("map");
    this.overlay = h("canvas", { class: "overlay", "aria-hidden": "true" });
    this.card = h("div", { class: "hover-card", "aria-hidden": "true", hidden: true });
    const canvas = h("canvas", { class: "points", "aria-hidden": "true" });
    this.points = WebGLPoints.on(canvas);
    this.canvas = canvas;
    if (this.points) this.points.onrestored = () => this.#redrawPoints();
    else this.points = new FlatPoints(canvas);
    this.box.append(canvas, this.overlay, this.card);
    this.pen = this.overlay.getContext("2d");
    this.thumbnails = new Thumbnails(() => this.redraw());
    this.lassoing = false;
    this.by = "cluster"; // or "label" or "doubt": what is coloured by
    this.showsImages = true;
    this.hovered = null;
    this.path = null;
    this.awaited = null; // the row to go to when the map is in sight
    this.toScreen = { scale: 1, left: 0, top: 0 };
    this.#bindPointer();
    this.#bindKeys();
    this.#bindTools();
    new ResizeObserver(() => this.#resize()).observe(this.box);
    store.on("labels", () => this.#take());
    for (const name of ["state", "cluster", "image"]) {
      store.on(name, () => {
        this.titles = null;
        this.redraw();
      });
    }
    for (const name of ["selection", "filter"]) {
      store.on(name, () => {
        this.#stand();
        this.points.setStanding();
        this.#redrawPoints();
      });
    }
    store.on("found", () => this.redraw());
  }

  /** Who is selected (1) and who is not let through (2), in one number for each row. */
  #stand() {
    this.standing ??= new Uint8Array(store.count);
    for (let row = 0; row < store.count; row++) this.standing[row] = store.selected[row] + (store.isVisible(row) ? 0 : 2);
  }

  #take() {
    const { positions, labels, columns } = store;
    const grouping = GROUPINGS[this.by === "label" ? "label" : "cluster"].of();
    const groups = grouping.reduce((most, group) => Math.max(most, group), 0) + 1;
    this.#stand();
    this.points.setData({ positions, labels, grouping, groups, by: this.by, confidences: columns.confidence, standing: this.standing });
    if (!this.index) {
      this.index = new KDBush(labels.length, 64, Float32Array);
      for (let row = 0; row < labels.length; row++) this.index.add(positions[2 * row], positions[2 * row + 1]);
      this.index.finish();
      this.fields = counted(positions);
      this.box.setAttribute("aria-label", `Map of ${count(labels.length, "image")}`);
      this.colourBy.querySelector("[value=label]").hidden = this.colourBy.querySelector("[value=label]").disabled = !columns.class;
    }
    this.centres = this.titles = null;
    this.#redrawPoints();
  }

  #resize() {
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = Math.round(this.width * this.ratio);
      canvas.height = Math.round(this.height * this.ratio);
    }
    const { width, height } = this;
    if (width && height) {
      this.zoom.extent([[0, 0], [width, height]]).translateExtent([[-width, -height], [2 * width, 2 * height]]);
      if (this.awaited !== null) this.goTo(this.awaited);
      if (this.awaitedPictures) this.showBrought(this.awaitedPictures);
    }
    this.#redrawPoints();
  }

  // Pointer

  #bindPointer() {
    this.zoom = zoom()
      .scaleExtent([0.7, NEAREST])
      .filter((event) => !event.button && !(event.type !== "wheel" && (this.lassoing || event.shiftKey)))
      .on("zoom", () => this.#moved());
    this.target = select(this.overlay);
    this.target.call(this.zoom).on("dblclick.zoom", null);
    const { overlay } = this;
    overlay.addEventListener("pointermove", (event) => this.#move(event));
    overlay.addEventListener("pointerleave", () => !this.path && this.#hover(null));
    overlay.addEventListener("pointerdown", (event) => this.#down(event));
    overlay.addEventListener("pointerup", (event) => this.#up(event));
    overlay.addEventListener("pointercancel", () => this.#endLasso());
    overlay.addEventListener("click", (event) => {
      const row = this.#rowAt(event.offsetX, event.offsetY);
      if (row === null || this.justLassoed) return;
      if (event.ctrlKey || event.metaKey) store.toggle(row);
      store.lookAt(row);
    });
  }

  #down(event) {
    this.justLassoed = false;
    if (event.button || !(this.lassoing || event.shiftKey)) return;
    this.path = [[event.offsetX, event.offsetY]];
    this.keeps = event.ctrlKey || event.metaKey;
    this.overlay.setPointerCapture(event.pointerId);
    this.#hover(null);
  }

  #move(event) {
    if (this.path) {
      this.path.push([event.offsetX, event.offsetY]);
      this.redraw();
    } else if (event.buttons === 0) {
      this.#hover(this.#rowAt(event.offsetX, event.offsetY));
    }
  }

  #up() {
    if (!this.path) return;
    const path = this.path;
    this.#endLasso();
    if (path.length < 3) return;
    this.justLassoed = true;
    const { scale, left, top } = this.toScreen;
    const polygon = path.map(([x, y]) => [(x - left) / scale, 1 - (y - top) / scale]);
    store.select(rowsInside(store.positions, polygon).filter((row) => store.isVisible(row)), this.keeps);
  }

  #endLasso() {
    this.path = null;
    this.redraw();
  }

  /** The row whose point is nearest to a place on the screen, within reach; null for none. */
  #rowAt(x, y, reach = REACH) {
    if (!this.index) return null;
    const { scale, left, top } = this.toScreen;
    const [mapX, mapY] = [(x - left) / scale, 1 - (y - top) / scale];
    const drawn = this.drawn?.findLast(({ x: cx, y: cy, half }) => Math.abs(cx - x) <= half && Math.abs(cy - y) <= half);
    if (drawn) return drawn.row;
    let nearest = null;
    let least = Infinity;
    for (const row of this.index.within(mapX, mapY, reach / scale)) {
      if (!store.isVisible(row)) continue;
      const distance = (store.positions[2 * row] - mapX) ** 2 + (store.positions[2 * row + 1] - mapY) ** 2;
      if (distance < least) [nearest, least] = [row, distance];
    }
    return nearest;
  }

  #hover(row) {
    if (row === this.hovered) return;
    this.hovered = row;
    this.card.hidden = row === null;
    if (row !== null) this.#fillCard(row);
    this.redraw();
  }

  #fillCard(row) {
    const name = h("span", { class: "id" }, "…");
    const sure = h("span", { class: "quiet" });
    const cluster = store.labels[row];
    this.card.replaceChildren(
      h("img", { src: imageUrl(row), alt: "" }),
      h("div", {}, name, h("span", {}, dot(cluster), store.title(cluster)), sure),
    );
    this.#nameCard(row, name, sure);
  }

  #nameCard = debounced(async (row, name, sure) => {
    if (row !== this.hovered) return;
    const details = await getJson(`/api/images/${row}`).catch(() => null);
    if (!details) return;
    name.textContent = details.id;
    sure.textContent = sureness(details.probability);
    if (this.byKeyboard) whisper(`${details.id}, ${details.title}, ${sure.textContent}`);
  }, 80);

  #placeCard() {
    if (this.hovered === null) return;
    const { scale, left, top } = this.toScreen;
    const x = left + store.positions[2 * this.hovered] * scale;
    const y = top + (1 - store.positions[2 * this.hovered + 1]) * scale;
    const flipX = x > this.width - 230;
    const flipY = y > this.height - 130;
    this.card.style.transform = `translate(${x}px, ${y}px) translate(${flipX ? "calc(-100% - 18px)" : "18px"}, ${flipY ? "calc(-100% - 18px)" : "18px"})`;
  }

  /** While the map moves a sample of very many points will do; all are there when it rests. */
  #moved() {
    this.isMoving = true;
    this.#rest();
    this.redraw();
  }

  #rest = debounced(() => {
    this.isMoving = false;
    this.redraw();
  }, 150);

  // Keyboard

  #bindKeys() {
    const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    this.box.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const k = zoomTransform(this.overlay).k;
      if (moves[event.key]) this.zoom.translateBy(this.target, moves[event.key][0] / k, moves[event.key][1] / k);
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
      else if (event.key === "-") this.zoomBy(1 / 1.5);
      else if (event.key === "Home" || event.key === "0") this.showAll();
      else if (event.key === "Enter" && this.hovered !== null) store.lookAt(this.hovered);
      else if (event.key === " " && this.hovered !== null) store.toggle(this.hovered);
      else if (event.key === "Escape") store.select([]);
      else return;
      event.preventDefault();
      if (!this.byKeyboard) this.#hover(null); // what the pointer shows has not been read out
      this.byKeyboard = true;
      this.#hover(this.#rowAt(this.width / 2, this.height / 2, 60));
      this.redraw();
    });
    this.box.addEventListener("pointerdown", () => (this.byKeyboard = false));
    this.box.addEventListener("blur", () => {
      this.byKeyboard = false;
      this.#hover(null);
      this.redraw();
    });
  }

  zoomBy(factor) {
    this.zoom.scaleBy(this.target, factor);
  }

  showAll() {
    this.zoom.transform(this.target, zoomIdentity);
  }

  /** Bring a row into the middle, near enough to see it among its neighbours; a map out of sight does so once it is shown. */
  goTo(row) {
    this.awaited = this.width ? null : row;
    if (!this.width) return;
    const { scale, left, top } = this.#unzoomed();
    const x = left + store.positions[2 * row] * scale;
    const y = top + (1 - store.positions[2 * row + 1]) * scale;
    const [mapX, mapY] = [store.positions[2 * row], store.positions[2 * row + 1]];
    let k = Math.max(zoomTransform(this.overlay).k, 12);
    const around = () => {
      const [w, h] = [this.width / 2 / (scale * k), this.height / 2 / (scale * k)];
      return this.index.range(mapX - w, mapY - h, mapX + w, mapY + h).length;
    };
    while (k < NEAREST && around() > 0.8 * this.#few()) k *= 1.25;
    this.zoom.transform(this.target, zoomIdentity.translate(this.width / 2 - k * x, this.height / 2 - k * y).scale(k));
  }

  #bindTools() {
    const pressed = (id, act) => {
      const button = byId(id);
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", on);
        act(on);
        this.redraw();
      });
    };
    byId("zoom-in").addEventListener("click", () => this.zoomBy(1.6));
    byId("zoom-out").addEventListener("click", () => this.zoomBy(1 / 1.6));
    byId("zoom-all").addEventListener("click", () => this.showAll());
    pressed("lasso", (on) => {
      this.lassoing = on;
      this.overlay.classList.toggle("lassoing", on);
    });
    this.colourBy = byId("colour-by");
    this.legend = byId("map-legend");
    this.colourBy.addEventListener("change", () => {
      this.by = this.colourBy.value;
      if (!store.ready) return;
      this.#take();
      this.#showLegend();
    });
    pressed("as-images", (on) => (this.showsImages = on));
  }

  /** What the colours mean, where that does not stand on the map or in the list of clusters. */
  #showLegend() {
    const { classes } = store.state.data;
    this.legend.hidden = this.by === "cluster";
    if (this.by === "doubt") {
      this.legend.replaceChildren(h("span", {}, `unsure, ${percent(0.45)} or less`), h("span", { class: "ramp" }), h("span", {}, "sure"));
    } else if (this.by === "label") {
      const more = classes.length > LEGEND ? h("span", { class: "quiet" }, `and ${count(classes.length - LEGEND, "other")}`) : "";
      this.legend.replaceChildren(...classes.slice(0, LEGEND).map((name, label) => h("span", {}, labelDot(label), name)), more);
    }
  }

  /** Bring pictures of the user's own into view: [{ position }, ...]. */
  showBrought(pictures) {
    this.awaitedPictures = this.width ? null : pictures;
    if (!this.width) return;
    const [xs, ys] = [0, 1].map((axis) => pictures.map(({ position }) => position[axis]));
    const { scale, left, top } = this.#unzoomed();
    const middle = ([low, high]) => (low + high) / 2;
    const ends = (values) => [Math.min(...values), Math.max(...values)];
    const wide = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys), 0.1);
    const k = Math.max(1, 0.7 / wide);
    const [x, y] = [left + middle(ends(xs)) * scale, top + (1 - middle(ends(ys))) * scale];
    this.zoom.transform(this.target, zoomIdentity.translate(this.width / 2 - k * x, this.height / 2 - k * y).scale(k));
  }

  // Drawing

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  #redrawPoints() {
    this.view = null;
    this.redraw();
  }

  #unzoomed() {
    const scale = Math.max(Math.min(this.width - 2 * MARGIN, this.height - MARGIN - TOOLS), 10);
    return { scale, left: (this.width - scale) / 2, top: TOOLS + (this.height - TOOLS - MARGIN - scale) / 2 };
  }

  #draw() {
    if (!this.width || !this.height || !store.ready) return;
    const { k, x, y } = zoomTransform(this.overlay);
    const { scale, left, top } = this.#unzoomed();
    this.toScreen = { scale: scale * k, left: left * k + x, top: top * k + y };
    const { width, height, ratio } = this;
    this.#drawPoints();
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.pen.clearRect(0, 0, width, height);
    this.#drawThumbnails(k);
    this.#drawTitles();
    this.#drawMarks();
    this.#placeCard();
    this.box.dataset.drawn = String(this.drawn.length); // how many thumbnails are there, for tests
  }

  #drawPoints() {
    const { width, height, ratio } = this;
    const doubt = this.by === "doubt";
    const near = Math.sqrt(this.toScreen.scale / USUAL);
    const root = Math.sqrt(store.labels.length);
    const size = Math.min(Math.max(Math.max(2.6, 130 / root) * near, 1.3), 9);
    // So many points would cover each other: let them show where they are dense.
    const faintest = 0.3 * Math.min(1, Math.sqrt(DENSE) / root);
    const alpha = Math.min(Math.max(Math.max(0.4 * Math.min(1, Math.sqrt(DENSE) / root), 60 / root) * near, faintest), 0.9);
    const options = { width, height, ratio, size, alpha, highlight: store.cluster, doubt, anySelected: store.selectedCount > 0, filtered: store.visible !== null, step: this.isMoving ? Math.ceil(store.count / this.points.most) : 1 };
    const view = JSON.stringify([this.toScreen, options]);
    if (view === this.view) return; // the pointer alone has moved: a hundred thousand points stay as they are
    this.view = view;
    this.points.draw(this.toScreen, options);
  }

  #drawThumbnails(k) {
    this.drawn = [];
    const few = this.#few();
    const rows = this.showsImages && !(this.#showsEverything() && store.visibleCount > few) && !this.#isCrowded(few) ? this.#rowsInView() : [];
    if (rows.length === 0 || rows.length > few) return;
    const level = Math.floor(Math.log2(k));
    const side = CELL * (k / 2 ** level); // from one to two cells, as the zoom goes from level to level
    const { scale, left, top } = this.toScreen;
    const half = side / 2 - 2; // its frame is on the outside
    const cell = CELL / (this.#unzoomed().scale * 2 ** level); // fixed to the map, so that nothing changes while it is moved
    const chosen = this.#apart(rows, cell);
    // What is looked at is there in any case, and above the others.
    for (const row of [store.image, this.hovered]) if (row !== null && rows.includes(row)) chosen.push(row);
    this.thumbnails.want(chosen);
    for (const row of chosen) {
      const x = left + store.positions[2 * row] * scale;
      const y = top + (1 - store.positions[2 * row + 1]) * scale;
      if (this.#drawThumbnail(row, x, y, half)) this.drawn.push({ row, x, y, half });
    }
  }

  /** So many points in view are shown as thumbnails. */
  #few() {
    return CROWD * (this.width / CELL) * (this.height / CELL);
  }

  #showsEverything() {
    const { scale, left, top } = this.toScreen;
    return left >= 0 && top >= 0 && left + scale <= this.width && top + scale <= this.height;
  }

  /** Whether more points than so many are surely in view: to list a million of them in each frame would be slow. */
  #isCrowded(few) {
    if (store.visible !== null) return false;
    const { scale, left, top } = this.toScreen;
    const inside = (low, high) => [Math.max(Math.ceil(low * FIELDS), 0), Math.min(Math.floor(high * FIELDS), FIELDS)];
    const [x0, x1] = inside(-left / scale, (this.width - left) / scale);
    const [y0, y1] = inside(1 - (this.height - top) / scale, 1 + top / scale);
    let count = 0;
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) count += this.fields[y * FIELDS + x];
    return count > few;
  }

  #rowsInView() {
    const { scale, left, top } = this.toScreen;
    const edge = CELL / scale;
    return this.index.range(-left / scale - edge, 1 - (this.height - top) / scale - edge, (this.width - left) / scale + edge, 1 + top / scale + edge).filter((row) => store.isVisible(row));
  }

  /** Of some rows those whose thumbnails do not cover each other; what is looked at comes first, then what stands out,
   * then the most typical images. `cell` is a thumbnail's side, on the map. */
  #apart(rows, cell) {
    const { typical } = store.columns;
    const later = new Map(rows.map((row) => [row, row === store.image ? -1 : typical[row] + (this.#isDimmed(row) ? 2 : 0)]));
    const free = new Map(); // by cell, in which there is room for one
    const apart = 1 + GAP / CELL;
    const isFree = (x, y) => {
      for (let i = -1; i <= 1; i++) for (let j = -1; j <= 1; j++) {
        const other = free.get((Math.floor(x) + i) * 1e6 + Math.floor(y) + j);
        if (other && Math.abs(other[1] - x) < apart && Math.abs(other[2] - y) < apart) return false;
      }
      return true;
    };
    for (const row of rows.sort((a, b) => later.get(a) - later.get(b) || a - b)) {
      const [x, y] = [store.positions[2 * row] / cell, store.positions[2 * row + 1] / cell];
      if (isFree(x, y)) free.set(Math.floor(x) * 1e6 + Math.floor(y), [row, x, y]);
    }
    return [...free.values()].map(([row]) => row);
  }

  /** A mark around an image: around its thumbnail, or a circle around its dot. */
  #ring(row, radius, ink, isSingle = true) {
    const { pen } = this;
    const { scale, left, top } = this.toScreen;
    const x = left + store.positions[2 * row] * scale;
    const y = top + (1 - store.positions[2 * row + 1]) * scale;
    const drawn = this.drawn.findLast((other) => other.row === row);
    pen.beginPath();
    if (drawn) pen.rect(x - drawn.half - 3, y - drawn.half - 3, 2 * drawn.half + 6, 2 * drawn.half + 6);
    else pen.arc(x, y, radius, 0, 7);
    if (isSingle) { // a pale edge, to be seen on whatever lies below; of many it would hide that
      pen.strokeStyle = getComputedStyle(this.box).getPropertyValue("--panel");
      pen.lineWidth = 6;
      pen.stroke();
    }
    pen.strokeStyle = ink;
    pen.lineWidth = isSingle ? 2.5 : 1.5;
    pen.stroke();
  }

  /** A picture of the user's own: a diamond with its name. */
  #drawBrought({ name, cluster, position }, ink) {
    const { pen } = this;
    const { scale, left, top } = this.toScreen;
    const [x, y] = [left + position[0] * scale, top + (1 - position[1]) * scale];
    pen.beginPath();
    for (const [dx, dy] of [[0, -9], [9, 0], [0, 9], [-9, 0]]) pen.lineTo(x + dx, y + dy);
    pen.closePath();
    pen.fillStyle = colour(cluster);
    pen.fill();
    pen.strokeStyle = getComputedStyle(this.box).getPropertyValue("--panel");
    pen.lineWidth = 5;
    pen.stroke();
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.stroke();
    const text = name.length > 28 ? `${name.slice(0, 27)}…` : name;
    pen.textAlign = "left";
    pen.lineWidth = 4;
    pen.strokeStyle = getComputedStyle(this.box).getPropertyValue("--panel");
    pen.strokeText(text, x + 14, y);
    pen.fillStyle = ink;
    pen.fillText(text, x + 14, y);
    pen.textAlign = "center";
  }

  #isDimmed(row) {
    return !store.stands(row);
  }

  #drawThumbnail(row, x, y, half) {
    const found = this.thumbnails.find(row);
    if (!found) return false;
    const { pen } = this;
    const longer = Math.max(found.width, found.height);
    const [w, t] = [(2 * half * found.width) / longer, (2 * half * found.height) / longer];
    pen.globalAlpha = this.#isDimmed(row) ? 0.3 : 1;
    pen.imageSmoothingEnabled = !TINY || w < found.width;
    pen.drawImage(found.bitmap, found.x, found.y, found.width, found.height, x - w / 2, y - t / 2, w, t);
    pen.strokeStyle = rowColour(this.by, row);
    pen.lineWidth = 2;
    pen.strokeRect(x - w / 2 - 0.5, y - t / 2 - 0.5, w + 1, t + 1);
    pen.globalAlpha = 1;
    return true;
  }

  #drawTitles() {
    const { pen } = this;
    const { scale, left, top } = this.toScreen;
    pen.font = "600 12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    if (this.titles?.scale !== scale) this.titles = { scale, placed: placed(this.#titles(), scale) };
    const style = getComputedStyle(this.box);
    const [panel, ink] = [style.getPropertyValue("--panel"), style.getPropertyValue("--ink")];
    for (const title of this.titles.placed) {
      const [x, y] = [left + title.left, top + title.top];
      pen.fillStyle = panel;
      pen.strokeStyle = colour(title.cluster);
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.roundRect(x, y, title.width, title.height, title.height / 2);
      pen.fill();
      pen.stroke();
      pen.fillStyle = ink;
      pen.fillText(title.text, x + title.width / 2, y + title.height / 2 + 0.5);
    }
  }

  /** Names of the clusters that are shown, the largest first, and where they belong on the map: above their images. */
  #titles() {
    this.centres ??= clusterCentres();
    const shown = store.state.clusters.filter(({ number }) => this.centres.has(number) && (store.cluster ?? number) === number);
    return shown.sort((a, b) => b.size - a.size).map(({ number, name }) => {
      const text = name || String(number);
      const [x, y] = this.centres.get(number);
      return { cluster: number, text, x, y: y + ABOVE / this.toScreen.scale, width: this.pen.measureText(text).width + 14 };
    });
  }

  #drawMarks() {
    const { pen } = this;
    const ink = getComputedStyle(this.box).getPropertyValue("--ink");
    const lit = getComputedStyle(this.box).getPropertyValue("--focus");
    for (const row of store.found) if (store.isVisible(row)) this.#ring(row, 6, lit, false);
    for (const picture of store.brought) this.#drawBrought(picture, ink);
    for (const [row, radius] of [[store.image, 9], [this.hovered, 7]]) if (row !== null) this.#ring(row, radius, ink);
    if (this.byKeyboard) {
      pen.strokeStyle = ink;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(this.width / 2 - 10, this.height / 2);
      pen.lineTo(this.width / 2 + 10, this.height / 2);
      pen.moveTo(this.width / 2, this.height / 2 - 10);
      pen.lineTo(this.width / 2, this.height / 2 + 10);
      pen.stroke();
    }
    if (this.path) {
      pen.strokeStyle = ink;
      pen.lineWidth = 1.5;
      pen.setLineDash([5, 4]);
      pen.beginPath();
      this.path.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.globalAlpha = 0.12;
      pen.fillStyle = ink;
      pen.fill();
      pen.globalAlpha = 1;
      pen.stroke();
      pen.setLineDash([]);
    }
  }
}

/** How many points each field of the map has, line after line from below. */
function counted(positions) {
  const fields = new Uint32Array(FIELDS * FIELDS);
  const at = (place) => Math.min(Math.floor(place * FIELDS), FIELDS - 1);
  for (let i = 0; i < positions.length; i += 2) fields[at(positions[i + 1]) * FIELDS + at(positions[i])] += 1;
  return fields;
}

/** Where to write a cluster's name: at the upper edge of its images, above the one nearest to the median of their places. */
function clusterCentres() {
  const rows = new Map();
  store.labels.forEach((label, row) => (rows.get(label) ?? rows.set(label, []).get(label)).push(row));
  const centres = new Map();
  for (const [label, members] of rows) {
    const step = Math.ceil(members.length / 500);
    const sample = members.filter((_, i) => i % step === 0);
    const [mx, my] = [0, 1].map((axis) => sample.map((row) => store.positions[2 * row + axis]).sort((a, b) => a - b)[sample.length >> 1]);
    let nearest = [mx, my];
    let least = Infinity;
    for (const row of sample) {
      const [x, y] = [store.positions[2 * row], store.positions[2 * row + 1]];
      const distance = (x - mx) ** 2 + (y - my) ** 2;
      if (distance < least) [nearest, least] = [[x, y], distance];
    }
    const column = sample.filter((row) => Math.abs(store.positions[2 * row] - nearest[0]) < NARROW).map((row) => store.positions[2 * row + 1]).filter((y) => y - nearest[1] < REACHING);
    column.sort((a, b) => a - b);
    centres.set(label, [nearest[0], column[Math.floor(0.97 * (column.length - 1))]]);
  }
  return centres;
}
