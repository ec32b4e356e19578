// What all views share: the clusters, the images' places, and what the user has chosen.

import { get, getBytes, getJson, postJson } from "./api.js";
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
  async refresh() {
    await this.take(await getJson("/api/state"));
  }

  async take(state) {
    const before = this.state;
    this.state = state;
    if (state.ready) await this.#load(state);
    if (this.cluster !== null && !this.clusterOf(this.cluster)) this.lookAtCluster(null);
    if (JSON.stringify(before) !== JSON.stringify(state)) this.emit("state");
  }

  async #load(state) {
    if (!this.positions) {
      const [positions, confidences] = await Promise.all([getBytes("/api/positions"), getBytes("/api/confidences")]);
      this.positions = new Float32Array(positions);
      this.confidences = new Uint8Array(confidences);
      this.selected = new Uint8Array(this.confidences.length);
    }
    if (this.#labelsRevision !== state.revision) {
      const answer = await get("/api/labels");
      this.labels = new Uint16Array(await answer.arrayBuffer());
      this.#labelsRevision = Number(answer.headers.get("x-revision"));
      this.emit("labels");
    }
  }

  /** Make an edit, and say what has been done; false if it was refused. */
  async edit(edit, done) {
    try {
      await this.take(await postJson("/api/edit", { edit, revision: this.state.revision }));
      say(done);
      return true;
    } catch (error) {
      say(error.message, true);
      if (error.status === 409) await this.refresh();
      return false;
    }
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
