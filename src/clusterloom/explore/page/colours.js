// Colours and markers of clusters as the server tells them, the same as in reports. Numbers stand beside them everywhere.

import { h } from "./dom.js";
import { store } from "./store.js";

const UNKNOWN = ["#808080", "circle"]; // of a cluster that another window has just made, until the next state

const style = (cluster) => store.state.styles[cluster] ?? UNKNOWN;

export const colour = (cluster) => style(cluster)[0];

const marked = ([hex, marker], size = "") => h("i", { class: `dot ${size}`, "data-marker": marker, style: { color: hex } });

/** A cluster's marker in its colour. */
export const dot = (cluster, size) => marked(style(cluster), size);

/** A label's marker in its colour. */
export const labelDot = (label) => marked(classStyle(label));

const classStyle = (label) => store.state.data.class_styles[label] ?? UNKNOWN;

/** From sure (grey) to doubtful (strong): one of the map's ways to colour. */
export const DOUBT_COLOURS = { sure: [150, 150, 150], doubtful: [214, 61, 24] };
const DOUBT_FROM = 0.45; // a probability at which doubt is as strong as can be shown

const hexOf = (channels) => `#${channels.map((v) => Math.round(v).toString(16).padStart(2, "0")).join("")}`;
const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The colour of a probability, red, green and blue. */
export function doubtColour(probability) {
  const t = Math.min(Math.max((probability - DOUBT_FROM) / (1 - DOUBT_FROM), 0), 1);
  const sure = t * t * (3 - 2 * t);
  return DOUBT_COLOURS.sure.map((v, i) => v * sure + DOUBT_COLOURS.doubtful[i] * (1 - sure));
}

/** The groups that the map is coloured by: the number of each row's, and colour and marker of each group. */
export const GROUPINGS = {
  cluster: { of: () => store.labels, style: (group) => style(group) },
  label: { of: () => store.columns.class, style: (group) => classStyle(group) },
};

/** A row's colour in a way to colour: "cluster", "label" or "doubt". */
export function rowColour(by, row) {
  if (by === "doubt") return hexOf(doubtColour(store.columns.confidence[row]));
  return GROUPINGS[by].style(GROUPINGS[by].of()[row])[0];
}

/** Red, green, blue and the number of the marker of each of `count` groups. */
export const palette = (by, count) => Array.from({ length: count }, (_, group) => {
  const [hex, marker] = GROUPINGS[by === "doubt" ? "cluster" : by].style(group);
  return [...channels(hex), MARKERS.indexOf(marker)];
});

export const MARKERS = ["circle", "square", "triangle", "diamond", "cross", "ring", "wedge"];
