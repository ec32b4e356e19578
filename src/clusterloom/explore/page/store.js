// What all views share: the clusters, the images' places, and what the user has chosen.

import { attempt, getBytes, getJson, postJson } from "./api.js";
import { say } from "./dom.js";

class Store extends EventTarget {
  state = null; // as the server tells it
  positions = null; // Float32Array, x and y in turns, y upwards
  labels = null; // Uint16Array, the cluster of each image now
  confidences = null; // Uint8Array, 255 for certainty
  selected = new Uint8Array(0); // 1 for each chosen image
  selectedCount = 0;
  image = null; // the row that is being looked at
  cluster = null; // the number of the cluster that is being looked at; null for all
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

  clusterOf = (number) => this.state.clusters.find((cluster) => cluster.number === number);
  title = (number) => this.clusterOf(number)?.title ?? `cluster ${number}`;

  /** Ask the server what there is; views hear of it if it is new. */
  refresh() {
    return this.#inTurn(() => this.#refresh());
  }

  /** Make an edit, and say what has been done; false if it was refused.
   *
   * `revision` is that of what the user saw, where the page may have moved on since. */
  edit(edit, done, revision) {
    return this.#inTurn(async () => {
      try {
        await this.#take(await postJson("/api/edit", { edit, revision: revision ?? this.state.revision }));
        say(done);
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
    await this.#take(await getJson("/api/state"));
  }

  /** All of it changes at once: no view sees new clusters with old labels. */
  async #take(state) {
    const before = this.state;
    if (state.ready && !this.positions) await this.#loadPlaces();
    const labels = state.ready && this.#labelsRevision !== state.revision ? await this.#newLabels(state.revision) : this.labels;
    const relabelled = labels !== this.labels;
    this.state = state;
    this.labels = labels;
    if (this.cluster !== null && !this.clusterOf(this.cluster)) this.lookAtCluster(null);
    if (relabelled) this.emit("labels");
    if (JSON.stringify(before) !== JSON.stringify(state)) this.emit("state");
  }

  async #loadPlaces() {
    const [positions, confidences] = await Promise.all([getBytes("/api/positions"), getBytes("/api/confidences")]);
    this.positions = new Float32Array(positions);
    this.confidences = new Uint8Array(confidences);
    this.selected = new Uint8Array(this.confidences.length);
  }

  async #newLabels(revision) {
    const labels = new Uint16Array(await getBytes("/api/labels"));
    this.#labelsRevision = revision; // they may be newer already; the next state asks for them again
    return labels;
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

  rowsOf(cluster) {
    const rows = [];
    this.labels.forEach((label, row) => label === cluster && rows.push(row));
    return rows;
  }

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

  #selectionChanged() {
    this.selectedCount = this.selected.reduce((sum, chosen) => sum + chosen, 0);
    this.emit("selection");
  }
}

export const store = new Store();
