// The same points where there is no WebGL 2: dots written straight into the canvas's pixels, which is much faster
// than asking a canvas to fill a hundred thousand rectangles.

import { DOUBT_COLOURS, rgb } from "../colours.js";

const SHADES = 32; // of doubt
const FAINT = 33; // opacity, of 255, of what is dimmed
const SOLID = 235;

/** A colour as the canvas keeps it in memory, red in the lowest byte, without its opacity in the highest. */
const packed = ([red, green, blue]) => (blue << 16) | (green << 8) | red;

export class FlatPoints {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.data = null;
    this.image = null;
  }

  setData(data) {
    this.data = data;
    this.colours = Array.from({ length: data.clusters }, (_, k) => packed(rgb(k)));
  }

  setSelected() {}

  draw(toScreen, options) {
    const { canvas, context } = this;
    const { width, height } = canvas;
    if (this.image?.width !== width || this.image.height !== height) {
      this.image = context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(0);
    if (this.data) {
      const dims = options.anySelected || options.highlight !== null;
      if (dims) this.#pass(toScreen, options, false, FAINT);
      this.#pass(toScreen, options, true, dims ? SOLID : Math.round(255 * options.alpha));
    }
    context.putImageData(this.image, 0, 0);
  }

  /** Draw the rows that stand out, or the others. */
  #pass({ scale, left, top }, { ratio, size, highlight, doubt, anySelected }, front, opacity) {
    const { positions, labels, confidences, selected } = this.data;
    const { width, height } = this.canvas;
    const palette = doubt ? DOUBT_SHADES : this.colours;
    const side = Math.max(1, Math.round(size * ratio));
    const factor = scale * ratio;
    const insets = roundOff(side);
    const [x0, y0] = [left * ratio - side / 2, (top + scale) * ratio - side / 2];
    for (let row = 0; row < labels.length; row++) {
      const stands = anySelected ? selected[row] === 1 : highlight === null || labels[row] === highlight;
      if (stands !== front) continue;
      const x = Math.round(x0 + positions[2 * row] * factor);
      const y = Math.round(y0 - positions[2 * row + 1] * factor);
      if (x < 0 || y < 0 || x + side > width || y + side > height) continue;
      const colour = palette[doubt ? (confidences[row] * SHADES) >> 8 : labels[row]];
      for (let line = 0; line < side; line++) {
        this.#add((y + line) * width + x + insets[line], side - 2 * insets[line], colour, opacity);
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

/** How many pixels each line of a square lacks on either side to be a dot. */
const roundOff = (side) => Array.from({ length: side }, (_, line) => {
  const radius = side / 2 - 0.25;
  const height = Math.abs(line - (side - 1) / 2);
  return Math.round(side / 2 - Math.sqrt(radius * radius - height * height));
});

const DOUBT_SHADES = Array.from({ length: SHADES }, (_, shade) => {
  const sure = Math.min(Math.max(((shade + 0.5) / SHADES - 0.45) / 0.55, 0), 1);
  return packed(DOUBT_COLOURS.sure.map((v, i) => Math.round(v * sure + DOUBT_COLOURS.doubtful[i] * (1 - sure))));
});
