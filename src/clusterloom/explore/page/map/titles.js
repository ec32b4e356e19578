// Where to write the clusters' names, so that none covers another.

const HEIGHT = 20; // CSS pixels
const GAP = 2;

/** Places for titles, in CSS pixels from the map's upper left corner, which depend on how near the map is and not on
 * where it has been moved to.
 *
 * `titles` have x and y on the map, y upwards, and a width in pixels. Those that come first stay where they belong; the
 * others step aside, or are left out until the map is nearer. */
export function placed(titles, scale) {
  const taken = [];
  for (const title of titles) {
    const [x, y] = [title.x * scale, (1 - title.y) * scale];
    const free = steps(title.width).find(([dx, dy]) => taken.every((other) => isApart(other, x + dx, y + dy, title.width)));
    if (free) taken.push({ ...title, left: x + free[0] - title.width / 2, top: y + free[1] - HEIGHT / 2, height: HEIGHT });
  }
  return taken;
}

function isApart(other, x, y, width) {
  const besides = Math.abs(other.left + other.width / 2 - x) >= (other.width + width) / 2 + GAP;
  return besides || Math.abs(other.top + HEIGHT / 2 - y) >= HEIGHT + GAP;
}

/** Nowhere, then to all sides, the shorter ways first. */
function steps(width) {
  const [h, v] = [width / 2 + GAP, HEIGHT / 2 + GAP];
  const found = [];
  for (let i = -4; i <= 4; i++) for (let j = -4; j <= 4; j++) found.push([i * h, j * v]);
  return found.filter(([dx, dy]) => dx * dx + dy * dy <= 48 * 48).sort((a, b) => a[0] ** 2 + a[1] ** 2 - b[0] ** 2 - b[1] ** 2);
}
