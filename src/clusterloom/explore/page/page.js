// The page put together: views by address, the list of clusters, undo, export, and the server's progress.

import { attempt, postJson, spriteUrl, start } from "./api.js";
import { openHistory } from "./dialogs.js";
import { dot } from "./colours.js";
import { Details } from "./details.js";
import { byId, count, h, number, refill, say } from "./dom.js";
import { Drop } from "./drop.js";
import { FilterBar, NO_FILTER } from "./filter.js";
import { GalleryView } from "./gallery.js";
import { Dimensions, NewImages, Walk } from "./generate.js";
import { LabelsView } from "./labels.js";
import { MapView } from "./map/view.js";
import { Refit } from "./refit.js";
import { ReviewView } from "./review.js";
import { store } from "./store.js";

const VIEWS = ["map", "gallery", "review", "labels", "generate", "try"];
const OF_IMAGES = ["map", "gallery", "review", "labels"]; // views that need images, and that the filter changes
const WAIT_MS = 400;
const POLL_MS = 4000;

const map = new MapView();
const gallery = new GalleryView();
const makers = { "new-images": new NewImages(), walk: new Walk(), dimensions: new Dimensions() };
const views = { gallery, review: new ReviewView(), labels: new LabelsView() };
new FilterBar();
new Refit();
new Drop(() => openView("try"), (brought) => {
  openView("map");
  map.showBrought(brought);
});
const details = new Details({
  goTo: (row) => {
    openView("map");
    map.goTo(row);
  },
  walkFrom: (row) => openMaker("walk", () => makers.walk.from.setRow(row)),
  walkTo: (row) => openMaker("walk", () => makers.walk.to.setRow(row)),
  dimensions: (row) => openMaker("dimensions", () => makers.dimensions.setRow(row)),
  showSelection: () => {
    store.setFilter({ ...NO_FILTER, selected: true });
    location.hash = addressOf("gallery", null);
  },
});

// Views. The address is #/view, or #/view/cluster; without the stroke it would name, and focus, an element.

let view = null;
history.scrollRestoration = "manual"; // the gallery itself knows where one was

const addressOf = (name, cluster) => `#/${name}${cluster === null ? "" : `/${cluster}`}`;

function readAddress() {
  const [name, cluster] = location.hash.slice(2).split("/");
  const possible = possibleViews();
  const before = view;
  if (before === "gallery" && !byId("gallery").hidden) gallery.leave(scroller().scrollTop);
  view = possible.includes(name) ? name : possible[0];
  document.body.dataset.view = view; // first: who hears of a cluster draws it only if it is in view
  if (store.state) store.lookAtCluster(/^\d+$/.test(cluster ?? "") && store.clusterOf(Number(cluster)) ? Number(cluster) : null);
  showView(view !== before);
}

function possibleViews() {
  return VIEWS.filter((name) => (store.state?.has_data || !OF_IMAGES.includes(name)) && (name !== "labels" || !store.state || !store.state.ready || store.state.data.classes.length > 0));
}

/** What scrolls: the middle of a wide window, all of a narrow one. */
const scroller = () => (getComputedStyle(byId("main")).overflowY === "visible" ? document.scrollingElement : byId("main"));

function openView(name) {
  location.hash = addressOf(name, store.cluster);
}

function showView(isOther) {
  for (const name of VIEWS) {
    byId(`view-${name}`).hidden = name !== view;
    byId(`to-${name}`).setAttribute("aria-current", name === view ? "page" : "false");
  }
  showProgress();
  showChosen();
  byId("filters").hidden = !OF_IMAGES.includes(view) || !store.ready;
  if (isOther) {
    scroller().scrollTop = 0;
    details.sheet.open(""); // it would cover what was asked for
  }
  views[view]?.show();
  if (view === "gallery") gallery.comeBack(scroller());
  if (isOther && view === "generate") showMaker();
}

function showProgress() {
  if (!store.state) return;
  const { ready, has_data: hasData, progress } = store.state;
  const waits = hasData && !ready && OF_IMAGES.includes(view);
  byId("progress").hidden = !waits;
  const { share, seconds } = store.state;
  byId("progress-text").textContent = `${progress[0]?.toUpperCase() ?? ""}${progress.slice(1)}, ${seconds} s so far`;
  byId("progress-bar").setAttribute("value", share);
  for (const id of ["gallery", "review", "labels", "map-frame", "filters"]) byId(id).hidden = waits || (id === "filters" && !OF_IMAGES.includes(view));
}

// Ways of making images, as tabs.

let maker = "new-images";

function openMaker(name, then) {
  maker = name;
  openView("generate");
  showMaker();
  then?.();
}

function showMaker() {
  const generating = store.state?.why_not_generating ?? "", decoding = store.state?.why_not_decoding ?? "";
  const missing = { "new-images": generating, walk: decoding, dimensions: decoding };
  const possible = Object.keys(makers).filter((name) => !missing[name]);
  if (!possible.includes(maker)) maker = possible[0] ?? null;
  for (const name of Object.keys(makers)) {
    byId(`tab-${name}`).hidden = !possible.includes(name);
    byId(`tab-${name}`).setAttribute("aria-selected", name === maker);
    byId(`tab-${name}`).tabIndex = name === maker ? 0 : -1;
    byId(name).hidden = name !== maker;
  }
  byId("cannot").previousElementSibling.hidden = possible.length === 0;
  byId("cannot").textContent = [...new Set(Object.values(missing))].filter(Boolean).join(" ");
  if (maker && view === "generate") makers[maker].show();
}

const tabs = [...document.querySelectorAll('[role="tab"]')];
for (const tab of tabs) {
  tab.addEventListener("click", () => openMaker(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const shown = tabs.filter((other) => !other.hidden);
    const next = shown[(shown.indexOf(tab) + step + shown.length) % shown.length];
    next.focus();
    next.click();
  });
}

// The list of clusters.

function showClusters() {
  const { state } = store;
  const item = (cluster) => h("li", {}, h("a", { id: `cluster-${cluster?.number ?? "all"}`, href: "#", "data-cluster": cluster?.number },
    cluster ? dot(cluster.number) : h("i", { class: "dot none" }),
    h("span", { class: "title" }, cluster ? cluster.title : "All clusters"),
    cluster?.size === undefined ? (cluster ? "" : h("span", { class: "figure" }, state.data ? number(state.data.images) : "")) : h("span", { class: "figure" }, number(cluster.size)),
    cluster?.typical?.length ? h("img", { src: spriteUrl(cluster.typical.slice(0, 6)), alt: "" }) : ""));
  refill(byId("cluster-list"), ...[null, ...state.clusters].map(item));
  showChosen();
}

/** Which cluster is looked at, in the list and in all addresses. */
function showChosen() {
  for (const link of document.querySelectorAll("#cluster-list a")) {
    const cluster = link.dataset.cluster === undefined ? null : Number(link.dataset.cluster);
    link.href = addressOf(view, cluster);
    link.setAttribute("aria-current", cluster === store.cluster);
  }
  for (const name of VIEWS) byId(`to-${name}`).href = addressOf(name, store.cluster);
}

function showHead() {
  const { state } = store;
  const { model } = state;
  byId("subtitle").textContent = state.data ? `${state.data.name}, ${count(state.data.images, "image")}` : model.trained_on;
  const focused = document.activeElement;
  for (const [id, name, keys] of [["undo", "Undo", "Ctrl Z"], ["redo", "Redo", "Ctrl Shift Z"]]) {
    byId(id).disabled = !state[id];
    byId(id).title = state[id] ? `${name}: ${state[id]} (${keys})` : `Nothing to ${id} (${keys})`;
  }
  if (focused.matches("#undo:disabled")) byId("redo").focus();
  if (focused.matches("#redo:disabled")) byId("undo").focus();
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !state.ready;
  byId("save-parquet").hidden = !state.has_parquet;
  byId("history").disabled = !state.ready;
  const views = possibleViews();
  for (const name of VIEWS) byId(`to-${name}`).hidden = !views.includes(name);
  byId("export-dir").textContent = state.export_dir;
  byId("search").hidden = !state.has_data;
  byId("edit-tools").hidden = !state.has_data;
  document.body.classList.toggle("alone", !state.has_data);
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // addresses are views
  byId("main").focus();
});

// Undo, redo, export.

for (const [id, said] of [["undo", "Undone"], ["redo", "Done again"]]) {
  byId(id).addEventListener("click", () => store.state[id] && store.edit({ op: id }, () => `${said}: ${store.state[id]}`));
}
byId("history").addEventListener("click", openHistory);
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=range], [type=checkbox], [type=radio]), textarea");
  if (!(event.ctrlKey || event.metaKey) || typing || document.querySelector("dialog[open]") || !store.ready) return;
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) byId("undo").click();
  else if ((key === "z" && event.shiftKey) || key === "y") byId("redo").click();
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", async () => {
    const saved = await attempt(() => postJson("/api/save/labels", { format: button.dataset.save }));
    button.closest("details").open = false;
    if (saved) say(`Labels of ${count(saved.count, "image")} in ${saved.path}`);
  });
}
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// The server's word.

store.on("state", () => {
  showHead();
  showClusters();
  showProgress();
});
store.on("cluster", () => {
  window.history.replaceState(null, "", addressOf(view, store.cluster)); // wherever it was chosen
  showChosen();
  document.querySelector('#cluster-list [aria-current="true"]').scrollIntoView({ inline: "nearest", block: "nearest" });
});
window.addEventListener("hashchange", readAddress);

async function watch() {
  const wasReady = store.ready;
  if (document.visibilityState === "visible") await attempt(() => store.refresh());
  if (store.ready && !wasReady) readAddress();
  const waits = !store.state || (store.state.has_data && !store.state.ready);
  setTimeout(watch, waits ? WAIT_MS : POLL_MS);
}

await attempt(() => store.refresh());
if (store.state) readAddress();
setTimeout(watch, WAIT_MS);
document.body.classList.toggle("tiny", Math.max(start.model.width, start.model.height) <= 48);
document.documentElement.dataset.started = "true";
