// What is asked before a cluster is merged or split, the list of edits, and an image in large.

import { attempt, getJson, imageUrl, originalUrl, postJson, seenUrl, spriteUrl } from "./api.js";
import { dot } from "./colours.js";
import { byId, chance, count, fillClusters, h, number } from "./dom.js";
import { store } from "./store.js";

const STRIP = 16;
const MOST_PARTS = 8;
const ZOOM = 1.5;

export function openDialog(title, ...contents) {
  const dialog = byId("dialog");
  dialog.replaceChildren(h("h2", { id: "dialog-title", tabindex: "-1" }, title), ...contents);
  if (!dialog.open) dialog.showModal();
  return dialog;
}

const close = () => byId("dialog").close();

/** Act once, however often the button is pressed. */
function taking(label, act, props = {}) {
  const button = h("button", { type: "button", class: "primary", ...props, onclick: async () => {
    if (button.disabled) return;
    button.disabled = true;
    close();
    await act();
  } }, label);
  return button;
}

export const leaving = (text = "Leave it") => h("button", { type: "button", onclick: close }, text);

/** Show a cluster beside another one, at first the nearest, and merge them if the user says so. */
export function openMerge(cluster, other = cluster.next) {
  const revision = store.state.revision;
  const others = store.state.clusters.filter(({ number: k }) => k !== cluster.number);
  const choice = h("select", { id: "merge-with", onchange: () => show() });
  fillClusters(choice, others);
  choice.value = other ?? others[0].number;
  const sides = h("div", { class: "halves" });
  const side = (one) => h("section", {}, h("h3", {}, dot(one.number), one.title, h("span", { class: "quiet" }, ` ${count(one.size, "image")}`)),
    one.typical.length ? h("img", { class: "strip", src: spriteUrl(one.typical.slice(0, STRIP)), alt: `typical images of ${one.title}` }) : "");
  const chosen = () => others.find(({ number: k }) => k === Number(choice.value));
  const show = () => sides.replaceChildren(side(cluster), side(chosen()));
  show();
  const take = async () => {
    const { number: k, title } = chosen();
    await store.edit({ op: "merge", clusters: [cluster.number, k], into: cluster.number }, `${title} is now part of ${cluster.title}`, revision);
  };
  const nearest = cluster.next === null ? "" : `The nearest is ${store.title(cluster.next)}: images of ${cluster.title} have ${chance(cluster.next_share)} for it on average.`;
  openDialog(`Merge another cluster into ${cluster.title}?`,
    h("p", { class: "quiet" }, nearest),
    h("label", { class: "field" }, "Merge with", choice),
    sides,
    h("div", { class: "row end" }, leaving(), taking("Merge", take, { id: "merge-take" })));
  choice.focus();
}

/** Show the parts that a cluster would fall into, and split it if the user says so. */
export async function openSplit(cluster) {
  const parts = h("input", { type: "number", id: "split-parts", min: 2, max: MOST_PARTS, value: 2 });
  const preview = h("div", { class: "halves", "aria-live": "polite" });
  let found = null;
  const take = async () => {
    const numbers = found.parts.map((_, i) => found.new + i);
    const done = `${cluster.title} has been split; ${numbers.length === 1 ? `cluster ${numbers[0]} is` : `clusters ${numbers.join(", ")} are`} new`;
    await store.edit({ op: "split", cluster: cluster.number, parts: found.parts, new: found.new }, done, found.revision);
  };
  const button = taking("Split", take, { id: "split-take", disabled: true });
  const part = (title, size, images) => h("section", {}, h("h3", {}, title, h("span", { class: "quiet" }, ` ${count(size, "image")}`)),
    h("div", { class: "grid small" }, images.map(({ row, id }) => h("div", { class: "tile" }, h("img", { src: imageUrl(row), alt: id })))));
  const look = async () => {
    const wanted = Number(parts.value);
    button.disabled = true;
    if (!Number.isInteger(wanted) || wanted < 2 || wanted > MOST_PARTS) return false;
    const answer = await attempt(() => postJson("/api/split", { cluster: cluster.number, parts: wanted }));
    if (wanted !== Number(parts.value)) return true; // another number has been chosen meanwhile
    found = answer ?? null;
    preview.replaceChildren(...(found ? found.sizes.map((size, i) => part(i ? `becomes cluster ${found.new + i - 1}` : "stays", size, found.images[i])) : []));
    button.disabled = !found;
    return found !== null;
  };
  parts.addEventListener("input", look);
  if (!(await look())) return;
  openDialog(`Split ${cluster.title}?`,
    h("p", { class: "quiet" }, "A mixture of normal distributions on its latents. The most typical images of each part:"),
    h("label", { class: "field" }, "Parts", parts),
    preview,
    h("div", { class: "row end" }, leaving(), button));
}

/** All edits, the last one first; a click takes everything back that came after one. */
export async function openHistory() {
  const history = await attempt(() => getJson("/api/history"));
  if (!history) return;
  const { done, undone, total, revision } = history;
  const back = (times, op, text) => async () => {
    close();
    await store.edit({ op, times }, text, revision);
  };
  const item = (text, button) => h("li", {}, h("span", {}, text), button);
  openDialog("Edits",
    h("p", { class: "quiet" }, total ? `${count(total, "edit")}, the last one first${total > done.length ? `; the last ${number(done.length)} of them` : ""}. They are kept in ${store.state.journal}.` : "Nothing has been edited yet."),
    h("ol", { class: "history" },
      undone.map((text, i) => h("li", { class: "quiet" }, h("span", {}, `taken back: ${text}`), h("button", { type: "button", onclick: back(i + 1, "redo", `Done again, up to: ${text}`) }, "Do again up to here"))).reverse(),
      done.map((text, i) => item(text, h("button", { type: "button", onclick: back(i + 1, "undo", `Taken back, from: ${text}`) }, i ? "Take back all from here" : "Take back")))),
    h("div", { class: "row end" }, leaving("Close")));
  byId("dialog-title").focus();
}

/** An image as large as the window, to look into: its file where there is one, and what the model sees of it. */
export function openLarge(row, title) {
  const { linkable: hasFile = false, framed = false } = store.state.data ?? {};
  const image = h("img", { alt: `image ${title}`, onerror: () => show(false) }); // the file may be gone
  const sees = h("button", { type: "button", id: "as-seen", hidden: !hasFile && !framed, onclick: () => show(sees.getAttribute("aria-pressed") === "true") }, "As the model sees it");
  const show = (original) => {
    const file = original && hasFile;
    image.classList.toggle("original", file);
    sees.setAttribute("aria-pressed", !original);
    const url = file ? originalUrl(row) : original ? imageUrl(row) : seenUrl(row);
    if (image.getAttribute("src") !== url) image.src = url;
  };
  show(true);
  const frame = h("div", { class: "zoomed", tabindex: "0", "aria-label": "The image; plus and minus zoom, arrow keys move" }, image);
  let zoom = 1;
  const set = (next) => {
    zoom = Math.min(Math.max(next, 1), 32);
    const across = (frame.scrollLeft + frame.clientWidth / 2) / frame.scrollWidth;
    const down = (frame.scrollTop + frame.clientHeight / 2) / frame.scrollHeight;
    image.style.width = image.style.height = `${100 * zoom}%`;
    frame.scrollTo(across * frame.scrollWidth - frame.clientWidth / 2, down * frame.scrollHeight - frame.clientHeight / 2); // the middle stays
    figure.textContent = `${Math.round(100 * zoom)} %`;
  };
  const figure = h("output", {});
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    set(zoom * (event.deltaY < 0 ? ZOOM : 1 / ZOOM));
  }, { passive: false });
  frame.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") set(zoom * ZOOM);
    else if (event.key === "-") set(zoom / ZOOM);
  });
  openDialog(title, frame,
    h("div", { class: "row end" }, sees, figure,
      h("button", { type: "button", "aria-label": "Zoom in", onclick: () => set(zoom * ZOOM) }, "+"),
      h("button", { type: "button", "aria-label": "Zoom out", onclick: () => set(zoom / ZOOM) }, "−"),
      leaving("Close")));
  set(1);
  frame.focus();
}
