// The same points where there is no WebGL 2: dots written straight into the canvas's pixels, which is much faster
// than asking a canvas to fill a hundred thousand rectangles.

import { doubtColour, palette } from "../colours.js";
import { MARKED } from "./points.js";

const AT_ONCE = 150_000; // points drawn in one frame
const SHADES = 32; // of doubt
const FAINT = 33; // opacity, of 255, of what is dimmed
const HIDDEN = 13; // of what the filter does not let through
const SOLID = 235;

/** A colour as the canvas keeps it in memory, red in the lowest byte, without its opacity in the highest. */
const packed = ([red, green, blue]) => (blue << 16) | (green << 8) | red;

export class FlatPoints {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.data = null;
    this.image = null;
    this.most = AT_ONCE; // points that can be drawn in each frame of a movement
  }

  setData(data) {
    this.data = data;
    const styles = palette(data.by, data.groups);
    this.colours = styles.map(packed);
    this.markers = styles.map(([, , , marker]) => marker);
  }

  setStanding() {}

  draw(toScreen, options) {
    cancelAnimationFrame(this.next);
    const { canvas, context } = this;
    const { width, height } = canvas;
    if (this.image?.width !== width || this.image.height !== height) {
      this.image = context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(0);
    const dims = options.anySelected || options.highlight !== null || options.filtered;
    const passes = dims ? [[false, FAINT], [true, SOLID]] : [[true, Math.round(255 * options.alpha)]];
    const count = this.data?.labels.length ?? 0;
    const parts = Math.max(Math.ceil(count / options.step / AT_ONCE), 1);
    const rows = Math.ceil(count / parts / options.step) * options.step; // of a part
    const work = passes.flatMap(([front, opacity]) => Array.from({ length: parts }, (_, part) => () => this.#pass(toScreen, options, front, opacity, rows * part, Math.min(rows * (part + 1), count))));
    // Very many are drawn over several frames and shown when all are there, so that no frame takes long.
    const go = () => {
      work.shift()();
      if (work.length === 0) context.putImageData(this.image, 0, 0);
      else if (parts === 1) go();
      else this.next = requestAnimationFrame(go);
    };
    if (count) go();
    else context.putImageData(this.image, 0, 0);
  }

  /** Draw the rows from one to another that stand out, or the others. */
  #pass({ scale, left, top }, { ratio, size, highlight, doubt, anySelected, step }, front, opacity, from, to) {
    const { positions, labels, grouping, confidences, standing } = this.data;
    const { width, height } = this.canvas;
    const colours = doubt ? DOUBT_SHADES : this.colours;
    const side = Math.max(1, Math.round(size * ratio));
    const factor = scale * ratio;
    const shapes = side < MARKED ? [runs(0, side)] : Array.from({ length: MARKS }, (_, marker) => runs(marker, side));
    const [x0, y0] = [left * ratio - side / 2, (top + scale) * ratio - side / 2];
    for (let row = from; row < to; row += step) {
      const hidden = standing[row] >= 2;
      const stands = !hidden && (anySelected ? standing[row] === 1 : highlight === null || labels[row] === highlight);
      if (stands !== front) continue;
      const x = Math.round(x0 + positions[2 * row] * factor);
      const y = Math.round(y0 - positions[2 * row + 1] * factor);
      if (x < 0 || y < 0 || x + side > width || y + side > height) continue;
      const colour = colours[doubt ? Math.min(Math.floor(confidences[row] * SHADES), SHADES - 1) : grouping[row]];
      const shape = shapes.length > 1 ? shapes[this.markers[grouping[row]]] : shapes[0];
      for (let i = 0; i < shape.length; i += 3) {
        this.#add((y + shape[i]) * width + x + shape[i + 1], shape[i + 2], colour, hidden ? HIDDEN : opacity);
      }
    }
  }

  /** Colour some pixels, which become more opaque the more points lie on them. */
  #add(start, count, colour, opacity) {
    for (let at = start; at < start + count; at++) {
      this.pixels[at] = colour | (Math.min((this.pixels[at] >>> 24) + opacity, SOLID) << 24);
    }
  }
}

const MARKS = 7;

/** A marker in a square of so many pixels: line, first pixel and number of pixels of each stretch, one after the other. */
function runs(marker, side) {
  const found = [];
  const middle = (side - 1) / 2;
  const radius = Math.max(side / 2 - 0.25, 0.5);
  for (let line = 0; line < side; line++) {
    let start = -1;
    for (let column = 0; column <= side; column++) {
      const inside = column < side && isInside(marker, (column - middle) / radius, (line - middle) / radius);
      if (inside && start < 0) start = column;
      if (!inside && start >= 0) {
        found.push(line, start, column - start);
        start = -1;
      }
    }
  }
  return found;
}

/** Whether a place lies in a marker that reaches from -1 to 1 in both directions, y downwards; as in the shader. */
function isInside(marker, x, y) {
  const [a, b] = [Math.abs(x), Math.abs(y)];
  switch (marker) {
    case 1: return Math.max(a, b) <= 0.8;
    case 2: return 2 * a - y <= 1 && y <= 0.9;
    case 3: return a + b <= 1;
    case 4: return 3 * Math.min(a, b) <= 1 && Math.max(a, b) <= 1;
    case 5: return Math.abs(Math.hypot(x, y) - 0.72) <= 0.28;
    case 6: return 2 * a + y <= 1 && y >= -0.9;
    default: return Math.hypot(x, y) <= 1;
  }
}

const DOUBT_SHADES = Array.from({ length: SHADES }, (_, shade) => packed(doubtColour((shade + 0.5) / SHADES).map(Math.round)));
