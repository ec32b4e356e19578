// What all views share: the clusters, what is known of every image, and what the user has chosen.

import { attempt, getBytes, getJson, postJson, start } from "./api.js";
import { say } from "./dom.js";
import { NO_FILTER, passes } from "./filter.js";

export const CONFIRMED = 1; // marks of images that the user has looked at
export const OUTLIER = 2;

class Store extends EventTarget {
  state = null; // as the server tells it
  positions = null; // Float32Array, x and y in turns, y upwards
  columns = {}; // by name, a number for each image: confidence, typical, doubtful, score, outlier, model, class
  labels = null; // Uint16Array, the cluster of each image now
  marks = null; // Uint8Array, what the user has said of each image
  selected = new Uint8Array(0); // 1 for each chosen image
  selectedCount = 0;
  filter = NO_FILTER;
  visible = null; // Uint8Array, 1 for each image that the filter lets through; null where there is none
  visibleCount = 0;
  image = null; // the row that is being looked at
  cluster = null; // the number of the cluster that is being looked at; null for all
  found = []; // rows that were found by an id or by likeness
  brought = []; // pictures of the user's own: { name, cluster, position }
  #textRows = null; // rows whose id has the filter's text in it
  #wantedText = ""; // what was typed last
  #orders = {};
  #labelsRevision = -1;
  #last = Promise.resolve(); // what is to end before the next edit or refresh begins

  emit(name) {
    this.dispatchEvent(new Event(name));
  }

  on(name, act) {
    this.addEventListener(name, act);
  }

  get ready() {
    return this.labels !== null;
  }

  get count() {
    return this.labels.length;
  }

  clusterOf = (number) => this.state.clusters.find((cluster) => cluster.number === number);
  title = (number) => this.clusterOf(number)?.title ?? `cluster ${number}`;

  /** Ask the server what there is; views hear of it if it is new. */
  refresh() {
    return this.#inTurn(() => this.#refresh());
  }

  /** Make an edit, and say what has been done, a text or what a function gives right before; false if it was refused.
   *
   * `revision` is that of what the user saw, where the page may have moved on since. */
  edit(edit, done, revision) {
    return this.#inTurn(async () => {
      const text = typeof done === "function" ? done() : done;
      try {
        await this.#take(await postJson("/api/edit", { edit, revision: revision ?? this.state.revision }));
        say(text);
        return true;
      } catch (error) {
        if (error.status === 409) await attempt(() => this.#refresh());
        say(error.message, true);
        return false;
      }
    });
  }

  /** One after the other: the second of two quick edits is meant for what the first leaves. */
  #inTurn(act) {
    const result = this.#last.then(act);
    this.#last = result.catch(() => {}); // who asked hears of it
    return result;
  }

  async #refresh() {
    const state = await getJson("/api/state");
    if (state.version !== start.version) return location.reload(); // explore has been started anew
    await this.#take(state);
  }

  /** All of it changes at once: no view sees new clusters with old labels. */
  async #take(state) {
    const before = this.state;
    const isFirst = state.ready && !this.positions;
    if (isFirst) await this.#loadColumns(state.data);
    const known = { labels: this.labels, marks: this.marks };
    const { labels, marks } = state.ready && this.#labelsRevision !== state.revision ? await this.#newLabels(state.revision) : known;
    const relabelled = labels !== this.labels;
    Object.assign(this, { state, labels, marks });
    if (isFirst) this.#recall();
    if (this.cluster !== null && !this.clusterOf(this.cluster)) this.lookAtCluster(null);
    if (relabelled && labels) this.#see();
    if (relabelled) this.emit("labels");
    if (JSON.stringify(before) !== JSON.stringify(state)) this.emit("state");
  }

  async #loadColumns({ images, classes, has_scores: hasScores }) {
    const kinds = { position: Float32Array, confidence: Float32Array, typical: Float32Array, doubtful: Float32Array, outlier: Uint8Array, model: Uint16Array };
    if (hasScores) kinds.score = Float32Array;
    if (classes.length) kinds.class = Uint16Array;
    const loaded = await Promise.all(Object.entries(kinds).map(async ([name, Kind]) => [name, new Kind(await getBytes(`/api/columns/${name}`))]));
    this.columns = Object.fromEntries(loaded);
    this.positions = this.columns.position;
    this.selected = new Uint8Array(images);
  }

  /** Have an order that is not there from the start: it takes the server a moment to make. */
  async need(order) {
    this.columns[order] ??= new Float32Array(await getBytes(`/api/columns/${order}`));
  }

  async #newLabels(revision) {
    const bytes = await getBytes("/api/labels");
    this.#labelsRevision = revision; // they may be newer already; the next state asks for them again
    const count = bytes.byteLength / 3;
    return { labels: new Uint16Array(bytes, 0, count), marks: new Uint8Array(bytes, 2 * count) };
  }

  lookAt(row) {
    this.image = row;
    this.emit("image");
  }

  lookAtCluster(number) {
    if (this.cluster === number) return;
    this.cluster = number;
    this.emit("cluster");
  }

  // What is seen: the filter, and rows in an order.

  /** Let only some images through; `changes` are fields of the filter. */
  async setFilter(changes) {
    const { text } = changes;
    if (text !== undefined) this.#wantedText = text;
    if (text && text !== this.filter.text) {
      const bytes = await attempt(() => getBytes(`/api/find?text=${encodeURIComponent(text)}`));
      if (!bytes || text !== this.#wantedText) return; // another text was typed meanwhile
      this.#textRows = new Uint32Array(bytes);
    }
    this.filter = { ...this.filter, ...changes }; // of now: another field may have changed meanwhile
    this.#see();
    this.emit("filter");
  }

  /** Work out what the filter lets through, which edits change too. */
  #see() {
    const test = passes(this.filter, this, this.#textRows);
    this.visible = test && new Uint8Array(this.count);
    for (let row = 0; test && row < this.count; row++) this.visible[row] = test(row) ? 1 : 0;
    this.visibleCount = this.visible ? 0 : this.count;
    for (let row = 0; test && row < this.count; row++) this.visibleCount += this.visible[row];
  }

  isVisible(row) {
    return this.visible === null || this.visible[row] === 1;
  }

  /** Whether an image is among those that everything else stands behind: of a selection, or else of a cluster. */
  stands(row) {
    return this.isVisible(row) && (this.selectedCount > 0 ? this.selected[row] === 1 : this.cluster === null || this.labels[row] === this.cluster);
  }

  /** Rows of a cluster, or of all for null, that the filter lets through, as they come in the data. */
  rowsOf(cluster) {
    const rows = [];
    for (let row = 0; row < this.count; row++) if ((cluster === null || this.labels[row] === cluster) && this.isVisible(row)) rows.push(row);
    return rows;
  }

  /** How many there are. */
  countOf(cluster) {
    let count = 0;
    for (let row = 0; row < this.count; row++) if (this.labels[row] === cluster && this.isVisible(row)) count += 1;
    return count;
  }

  /** The same rows, in an order: "typical", "doubtful", "question", "score" or "data". */
  inOrder(cluster, order) {
    if (!this.columns[order]) return Uint32Array.from(this.rowsOf(cluster));
    return this.#sorted(order).filter((row) => (cluster === null || this.labels[row] === cluster) && this.isVisible(row));
  }

  /** All rows in an order, which never changes. */
  #sorted(order) {
    const places = this.columns[order];
    this.#orders[order] ??= Uint32Array.from({ length: this.count }, (_, row) => row).sort((a, b) => places[a] - places[b] || a - b);
    return this.#orders[order];
  }

  // The selection.

  selectedRows() {
    const rows = [];
    this.selected.forEach((chosen, row) => chosen && rows.push(row));
    return rows;
  }

  /** Choose images: instead of what is chosen, or besides. */
  select(rows, keep = false) {
    if (!keep) this.selected.fill(0);
    for (const row of rows) this.selected[row] = 1;
    this.#selectionChanged();
  }

  toggle(row) {
    this.selected[row] = 1 - this.selected[row];
    this.#selectionChanged();
  }

  /** Choose all that the filter lets through and that are not chosen. */
  invert() {
    for (let row = 0; row < this.count; row++) this.selected[row] = this.isVisible(row) && !this.selected[row] ? 1 : 0;
    this.#selectionChanged();
  }

  /** Of what is chosen keep what is among these rows. */
  intersect(rows) {
    const among = new Uint8Array(this.count);
    for (const row of rows) among[row] = this.selected[row];
    this.selected.set(among);
    this.#selectionChanged();
  }

  #selectionChanged() {
    this.selectedCount = this.selected.reduce((sum, chosen) => sum + chosen, 0);
    this.#remember();
    if (this.filter.selected) this.#see();
    this.emit("selection");
    if (this.filter.selected) this.emit("filter");
  }

  /** A reload does not lose what was chosen; another tab has its own. */
  #remember() {
    const bits = new Uint8Array(Math.ceil(this.count / 8));
    this.selected.forEach((chosen, row) => (bits[row >> 3] |= chosen << (row & 7)));
    let text = "";
    for (let at = 0; at < bits.length; at += 8192) text += String.fromCharCode(...bits.subarray(at, at + 8192));
    try {
      sessionStorage.setItem(this.#memory, this.selectedCount ? btoa(text) : "");
    } catch {} // full, or forbidden: then a reload begins anew
  }

  #recall() {
    let text = "";
    try {
      text = atob(sessionStorage.getItem(this.#memory) ?? "");
    } catch {}
    for (let row = 0; row < this.count && text; row++) this.selected[row] = (text.charCodeAt(row >> 3) >> (row & 7)) & 1;
    this.selectedCount = this.selected.reduce((sum, chosen) => sum + chosen, 0);
    if (this.selectedCount) this.emit("selection");
  }

  get #memory() {
    return `clusterloom-selection-${this.state.data.key}`;
  }

  // What was found, and pictures of the user's own.

  setFound(rows) {
    this.found = rows;
    this.emit("found");
  }

  setBrought(pictures) {
    this.brought = pictures;
    this.emit("found");
  }
}

export const store = new Store();
