// Colours and markers of clusters as the server tells them, the same as in reports. Numbers stand beside them everywhere.

import { h } from "./dom.js";
import { store } from "./store.js";

const UNKNOWN = ["#808080", "circle"]; // of a cluster that another window has just made, until the next state

const style = (cluster) => store.state.styles[cluster] ?? UNKNOWN;

export const colour = (cluster) => style(cluster)[0];

/** Red, green and blue, 0 to 255, of a cluster number. */
export function rgb(cluster) {
  const hex = colour(cluster);
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** A cluster's marker in its colour. */
export const dot = (cluster, size = "") => h("i", { class: `dot ${size}`, "data-marker": style(cluster)[1], style: { color: colour(cluster) } });

/** From sure (grey) to doubtful (strong): the map's second way to colour; `doubt` from 0 to 1. */
export const DOUBT_COLOURS = { sure: [150, 150, 150], doubtful: [214, 61, 24] };
