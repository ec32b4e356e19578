// Colours of clusters: told apart by colour-blind people as far as colours go; numbers stand beside them everywhere.

// Paul Tol's qualitative schemes "bright", "vibrant" and "muted", in an order that keeps neighbours apart.
const BASE = [
  "#4477aa", "#ee7733", "#228833", "#cc3366", "#66b8dd", "#b8a51f", "#aa3377", "#009988", "#882255", "#8a8f3c",
  "#7a6fd0", "#cc6677", "#44aa99", "#b26d2c", "#5d8fe0", "#79a83a", "#c76fc0", "#7c7c7c", "#d1495b", "#2e8b8b",
];
// Further rounds are mixed with white or black.
const ROUNDS = [[0, 0], [0.38, 255], [0.34, 0]];

/** Red, green and blue, 0 to 255, of a cluster number. */
export function rgb(cluster) {
  const [share, towards] = ROUNDS[Math.floor(cluster / BASE.length) % ROUNDS.length];
  const base = BASE[cluster % BASE.length];
  return [1, 3, 5].map((at) => Math.round(parseInt(base.slice(at, at + 2), 16) * (1 - share) + towards * share));
}

export const colour = (cluster) => `rgb(${rgb(cluster).join(" ")})`;

/** From sure (grey) to doubtful (strong): the map's second way to colour; `doubt` from 0 to 1. */
export const DOUBT_COLOURS = { sure: [150, 150, 150], doubtful: [214, 61, 24] };
