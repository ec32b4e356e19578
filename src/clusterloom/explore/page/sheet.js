// The panel where the window is narrow: a sheet at the bottom that shows one of its sections at a time, or none.

import { byId, h } from "./dom.js";

const TITLES = { "image-details": "Image", selection: "Selection", found: "Found" };

export class Sheet {
  constructor() {
    this.panel = byId("details");
    this.buttons = new Map(Object.entries(TITLES).map(([section, title]) =>
      [section, h("button", { type: "button", "aria-controls": section, "aria-expanded": "false", onclick: () => this.#toggle(section) }, title)]));
    this.bar = h("div", { class: "sheet-bar" }, ...this.buttons.values(),
      h("button", { type: "button", class: "close quiet", "aria-label": "Close the details", onclick: () => this.#close() }, "×"));
    this.panel.prepend(this.bar);
    this.panel.addEventListener("keydown", (event) => event.key === "Escape" && this.#close());
  }

  /** Show a section; "" for none. */
  open(section) {
    this.panel.dataset.open = section;
    for (const [name, button] of this.buttons) button.setAttribute("aria-expanded", name === section);
    if (!this.bar.checkVisibility()) return; // a wide window shows all of them
    this.panel.scrollTop = 0;
    if (!document.activeElement.checkVisibility()) byId("main").focus({ preventScroll: true });
  }

  /** What a section's button says. */
  name(section, title) {
    this.buttons.get(section).textContent = title;
  }

  #toggle(section) {
    this.open(this.panel.dataset.open === section ? "" : section);
  }

  #close() {
    const section = this.panel.dataset.open;
    this.open("");
    this.buttons.get(section)?.focus();
  }
}
