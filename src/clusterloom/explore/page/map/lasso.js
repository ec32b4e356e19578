// Which points lie inside a line drawn by hand.

/** Rows whose points lie inside a polygon, by the even-odd rule.
 *
 * `positions` has x and y in turns; `polygon` is a list of [x, y] on the same scale. */
export function rowsInside(positions, polygon) {
  const xs = polygon.map(([x]) => x);
  const ys = polygon.map(([, y]) => y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const rows = [];
  for (let row = 0; row < positions.length / 2; row++) {
    const x = positions[2 * row];
    const y = positions[2 * row + 1];
    if (x < left || x > right || y < low || y > high) continue;
    if (isInside(x, y, xs, ys)) rows.push(row);
  }
  return rows;
}

function isInside(x, y, xs, ys) {
  let inside = false;
  for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
    const crosses = ys[i] > y !== ys[j] > y;
    if (crosses && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
  }
  return inside;
}
