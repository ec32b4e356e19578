// The same points on a plain canvas, where there is no WebGL 2.

import { DOUBT_COLOURS, colour } from "../colours.js";

export class FlatPoints {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.data = null;
  }

  setData(data) {
    this.data = data;
  }

  draw(toScreen, options) {
    const { context, data } = this;
    context.setTransform(options.ratio, 0, 0, options.ratio, 0, 0);
    context.clearRect(0, 0, options.width, options.height);
    if (!data) return;
    for (const front of [false, true]) this.#pass(toScreen, options, front);
  }

  #pass({ scale, left, top }, { width, height, size, alpha, highlight, doubt, anySelected }, front) {
    const { context } = this;
    const { positions, labels, confidences, selected } = this.data;
    const dims = anySelected || highlight !== null;
    context.globalAlpha = !dims ? alpha : front ? 0.85 : 0.13;
    for (let row = 0; row < labels.length; row++) {
      const stands = anySelected ? selected[row] === 1 : highlight === null || labels[row] === highlight;
      if ((dims ? stands : false) !== front) continue;
      const x = left + positions[2 * row] * scale;
      const y = top + (1 - positions[2 * row + 1]) * scale;
      if (x < 0 || y < 0 || x > width || y > height) continue;
      context.fillStyle = doubt ? doubtColour(confidences[row] / 255) : colour(labels[row]);
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
  }
}

function doubtColour(confidence) {
  const sure = Math.min(Math.max((confidence - 0.45) / 0.55, 0), 1);
  const mixed = DOUBT_COLOURS.sure.map((v, i) => Math.round(v * sure + DOUBT_COLOURS.doubtful[i] * (1 - sure)));
  return `rgb(${mixed.join(" ")})`;
}
