// True labels against clusters: a table whose cells select.

import { dot } from "./colours.js";
import { byId, count, h, number, percent, refill, say } from "./dom.js";
import { store } from "./store.js";

export class LabelsView {
  constructor() {
    this.box = byId("labels");
    for (const name of ["labels", "filter", "state"]) store.on(name, () => this.show());
  }

  show() {
    if (document.body.dataset.view !== "labels" || !store.ready || !store.columns.class) return;
    const { classes } = store.state.data;
    const clusters = store.state.clusters;
    const counts = this.#counts(classes.length);
    const columns = inOrder(clusters, counts);
    const most = Math.max(1, ...columns.flatMap(({ number: k }) => counts.map((row) => row[k] ?? 0)));
    const total = (rows) => rows.reduce((sum, n) => sum + n, 0);
    const agree = total(columns.map(({ number: k }) => Math.max(...counts.map((row) => row[k] ?? 0))));
    const all = total(counts.map((row) => total(columns.map(({ number: k }) => row[k] ?? 0))));
    const cell = (label, { number: k, title }) => {
      const n = counts[label][k] ?? 0;
      const share = n / most;
      const pick = (event) => this.#choose(label, k, event.ctrlKey || event.metaKey);
      return h("td", {}, n ? h("button", { type: "button", class: "cell", "aria-label": `${count(n, "image")} labelled ${classes[label]} in ${title}: select them`, style: { "--share": `${Math.round(100 * Math.sqrt(share))}%` }, onclick: pick }, number(n)) : h("span", { class: "quiet" }, "0"));
    };
    refill(this.box,
      h("h2", { tabindex: "-1" }, "Labels against clusters"),
      h("p", { class: "quiet" }, `The model has never seen these labels. ${percent(all ? agree / all : 0)} of the images carry the most frequent label of their cluster (purity, as the clusters are now). A number selects its images; with Ctrl it adds them.`),
      h("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": "Table of labels against clusters" },
        h("table", { class: "contingency" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "label"), columns.map(({ number: k, name: named, title }) => h("th", { scope: "col" }, h("a", { href: `#/gallery/${k}`, title, "aria-label": title }, dot(k), named || String(k)))), h("th", { scope: "col" }, "images"))),
          h("tbody", {}, classes.map((name, label) => h("tr", {}, h("th", { scope: "row" }, name), columns.map((cluster) => cell(label, cluster)), h("td", { class: "figure" }, number(total(columns.map(({ number: k }) => counts[label][k] ?? 0))))))))));
  }

  /** Images that the filter lets through, by label and cluster number. */
  #counts(classes) {
    const counts = Array.from({ length: classes }, () => []);
    store.labels.forEach((cluster, row) => {
      if (!store.isVisible(row)) return;
      const line = counts[store.columns.class[row]];
      line[cluster] = (line[cluster] ?? 0) + 1;
    });
    return counts;
  }

  #choose(label, cluster, keep) {
    store.select(store.rowsOf(cluster).filter((row) => store.columns.class[row] === label), keep);
    say(`${count(store.selectedCount, "image")} selected`);
  }
}

/** Clusters in the order of the labels that most of their images have, so that what agrees lies on the diagonal. */
function inOrder(clusters, counts) {
  const label = ({ number: k }) => counts.reduce((best, row, i) => ((row[k] ?? 0) > (counts[best][k] ?? 0) ? i : best), 0);
  return [...clusters].sort((a, b) => label(a) - label(b) || b.size - a.size);
}
