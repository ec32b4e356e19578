// Making elements. Everything becomes text or a property: no string is ever read as HTML.

/** An element: h("button", { class: "quiet", onclick: act, "aria-label": "Close" }, "x"). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

const counted = new Intl.NumberFormat("en");
export const count = (n, noun) => `${counted.format(n)} ${noun}${n === 1 ? "" : "s"}`;
export const number = (n) => counted.format(n);

/** A share of some images: 100 % is all of them. */
export const percent = (p) => `${(100 * p).toFixed((p > 0 && p < 0.0995) || (p >= 0.985 && p < 1) ? 1 : 0)} %`;

/** A probability, of which nobody knows that it is 1, nor that it is 0. */
export const chance = (p) => (p >= 0.9995 ? "> 99.9 %" : p < 0.0005 ? "< 0.1 %" : percent(p));

/** What stands beside an image: the probability of its cluster, which the model has none of once a user moved it. */
export const sureness = (probability) => (probability === null ? "moved by hand" : chance(probability));

/** Put something else into a box. A focus in it goes to what has the same id there now, or to the first heading or link. */
export function refill(box, ...children) {
  const focused = box.contains(document.activeElement) ? document.activeElement.id : null;
  box.replaceChildren(...children);
  if (focused !== null) (byId(focused) ?? box.querySelector("h2, a"))?.focus({ preventScroll: true });
}

/** Let a choice be between these clusters, and all of them where that has a name; what is chosen stays if it is among them. */
export function fillClusters(choice, clusters, all = "") {
  const before = choice.value;
  const first = all ? [h("option", { value: "" }, all)] : [];
  choice.replaceChildren(...first, ...clusters.map((cluster) => h("option", { value: cluster.number }, cluster.title)));
  if (clusters.some((cluster) => String(cluster.number) === before)) choice.value = before;
}

/** Say something in passing: shown for a while, and read out. */
export function say(text, isError = false) {
  const line = byId("status");
  line.textContent = text;
  line.classList.toggle("error", isError);
  line.classList.toggle("shown", text !== "");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => line.classList.remove("shown"), isError ? 12000 : 6000);
}

/** Read something out without showing it. */
export function whisper(text) {
  byId("whisper").textContent = text;
}

/** Calls to `act` once they have stopped for so many milliseconds. */
export function debounced(act, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
}

/** Calls to an async `act`, one at a time; of those that come meanwhile only the last is made. */
export function latestOnly(act) {
  let running = false;
  let waiting = null;
  return async function call(...values) {
    if (running) {
      waiting = values;
      return;
    }
    running = true;
    try {
      await act(...values);
    } finally {
      running = false;
      if (waiting) {
        const next = waiting;
        waiting = null;
        call(...next);
      }
    }
  };
}
