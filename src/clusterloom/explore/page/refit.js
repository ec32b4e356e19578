// A new fit from the corrections: its button, how far it is, and the way to the new model.

import { attempt, getJson, postJson } from "./api.js";
import { openDialog, leaving } from "./dialogs.js";
import { byId, count, h, number, say } from "./dom.js";
import { store } from "./store.js";

const WATCH_MS = 500;

export class Refit {
  #state = { possible: false, heard: 0, last: null };
  #watching = false;
  #asked = 0; // how often something was asked of it: what was on its way before is old
  #phase = null; // of the dialog

  constructor() {
    byId("refit").addEventListener("click", () => this.#open());
    store.on("state", () => this.#refresh());
  }

  get #running() {
    return this.#state.last?.running ?? false;
  }

  /** Ask how far it is, and again as long as it runs. */
  async #refresh() {
    if (this.#watching || !store.ready) return;
    this.#watching = true;
    try {
      do {
        const asked = this.#asked;
        const state = await getJson("/api/refit");
        if (asked === this.#asked) this.#take(state);
        if (this.#running) await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
      } while (this.#running);
    } catch {} // the server has gone, which others say; the next state asks again
    this.#watching = false;
  }

  #take(state) {
    const wasRunning = this.#running;
    this.#state = state;
    const { possible, last } = state;
    byId("refit").hidden = !possible;
    byId("refit").textContent = !last || last.cancelled ? "Refit" : last.running ? `Refit ${last.share === null ? "…" : `${Math.round(100 * last.share)} %`}` : last.done ? "Refit: done" : "Refit: failed";
    if (byId("refit-dialog") && byId("dialog").open) this.#fill();
    if (wasRunning && !this.#running) this.#tellEnd();
  }

  #tellEnd() {
    const { last } = this.#state;
    if (last.cancelled) say("The refit was cancelled");
    else say(last.done ? `The new model ${last.name} is there` : `The refit failed: ${last.text}`, !last.done);
  }

  #open() {
    openDialog("Fit again", h("div", { id: "refit-dialog" }), h("div", { class: "row end", id: "refit-buttons" }));
    this.#phase = null;
    this.#fill();
    this.#refresh();
  }

  #fill() {
    const { heard, last } = this.#state;
    const shows = last && !last.cancelled;
    const phase = shows && last.running ? "running" : shows && last.done ? "done" : "new";
    if (phase !== this.#phase) this.#build(phase);
    this.#phase = phase;
    byId("refit-text").textContent = {
      running: () => `${last.text} (${number(last.seconds)} s so far)`,
      done: () => `The new model is ${last.out}. It took ${number(last.seconds)} s.`,
      new: () => (heard ? `It will hear ${count(heard, "correction")}.` : "Nothing has been corrected yet."),
    }[phase]();
    if (phase === "running" && last.share !== null) byId("refit-progress").value = last.share;
    if (phase === "new") {
      byId("refit-start").disabled = !heard;
      byId("refit-error").textContent = shows ? `The last one failed: ${last.text}` : "";
    }
  }

  /** What changes from one phase to the next: a button that is being pressed is never replaced by its like. */
  #build(phase) {
    const text = h("p", { class: "quiet id", id: "refit-text" });
    const button = (id, label, what, props = {}) => h("button", { type: "button", id, onclick: () => this.#ask(what), ...props }, label);
    const [contents, buttons] = {
      running: () => [[
        h("p", {}, "You may go on looking. What you correct from now on counts the next time."),
        h("progress", { id: "refit-progress", max: 1, "aria-label": "Fit" }), text],
      [button("refit-cancel", "Cancel it", "cancel")]],
      done: () => [[text,
        h("p", {}, "Opened, it takes the place of this one on every page of this server. Both models stay on the disk.")],
      [button("refit-start", "Fit once more", "start"), button("refit-open", "Open the new model", "open", { class: "primary" })]],
      new: () => [[
        h("p", {}, "A new model begins with the clusters as they are now, and with their names. Images that you kept or moved weigh most, and images like them follow. This model stays as it is."),
        text, h("p", { class: "error", id: "refit-error", role: "alert" })],
      [button("refit-start", "Fit again", "start", { class: "primary" })]],
    }[phase]();
    const hadFocus = byId("refit-buttons").contains(document.activeElement);
    byId("refit-dialog").replaceChildren(...contents);
    byId("refit-buttons").replaceChildren(...buttons, leaving("Close"));
    if (hadFocus) byId("refit-buttons").lastElementChild.focus();
  }

  async #ask(what) {
    const answer = await attempt(() => postJson(`/api/refit/${what}`, {}));
    if (!answer) return;
    if (what === "open") store.refresh(); // another version: every page is loaded anew
    else {
      this.#asked++;
      this.#take(answer);
      this.#refresh();
    }
  }
}
