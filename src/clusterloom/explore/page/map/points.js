// A hundred thousand points in one draw call. Own shaders: common WebGL wrappers build functions from strings, which
// the page's Content-Security-Policy does not allow.

import { DOUBT_COLOURS, palette } from "../colours.js";

const PALETTE = 256; // colours in a row of the texture
const MOST_STEP = 31; // WebGL takes no stride beyond 255 bytes, and a place has 8
export const MARKED = 6; // pixels from which on a dot has a marker that can be seen

const VERTEX = `#version 300 es
in vec2 position;
in float cluster;
in float group;          // what it is coloured by
in float confidence;
in float standing;       // 1: selected, 2: not let through by the filter
uniform vec4 view;       // factor and offset from the map to clip space
uniform float size;
uniform float alpha;
uniform sampler2D palette;
uniform float highlight; // a cluster that stands out, or -1
uniform float anySelected;
uniform float doubt;     // 1: colour by doubt
uniform float front;     // second pass, where something stands out: only that
uniform vec3 sureColour;
uniform vec3 doubtfulColour;
uniform float filtered;
out vec4 colour;
flat out int marker;
flat out float pixels;
void main() {
  bool hidden = standing > 1.5;
  bool chosen = standing == 1.0 || standing == 3.0;
  bool stands = !hidden && (anySelected > 0.5 ? chosen : (highlight < 0.0 || cluster == highlight));
  bool dims = anySelected > 0.5 || highlight >= 0.0 || filtered > 0.5;
  if (dims && stands != (front > 0.5)) { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); gl_PointSize = 0.0; return; }
  gl_Position = vec4(position * view.xy + view.zw, 0.0, 1.0);
  gl_PointSize = chosen ? size + 1.5 : size;
  pixels = gl_PointSize;
  vec4 texel = texelFetch(palette, ivec2(int(group) % ${PALETTE}, int(group) / ${PALETTE}), 0);
  vec3 own = texel.rgb;
  marker = size < ${MARKED}.0 ? 0 : int(texel.a * 255.0 + 0.5);
  vec3 doubtColour = mix(doubtfulColour, sureColour, smoothstep(0.45, 1.0, confidence));
  colour = vec4(mix(own, doubtColour, doubt), dims ? (stands ? 0.85 : (hidden ? 0.05 : 0.13)) : alpha);
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
flat in int marker;
flat in float pixels;
out vec4 fragment;
float reach(vec2 at) { // 1 on the marker's edge, less inside; y goes down
  vec2 far = abs(at);
  if (marker == 1) return max(far.x, far.y) / 0.8;
  if (marker == 2) return max(2.0 * far.x - at.y, at.y / 0.9);
  if (marker == 3) return far.x + far.y;
  if (marker == 4) return max(3.0 * min(far.x, far.y), max(far.x, far.y));
  if (marker == 5) return abs(length(at) - 0.72) / 0.28;
  if (marker == 6) return max(2.0 * far.x + at.y, -at.y / 0.9);
  return length(at);
}
void main() {
  float soft = min(3.0 / pixels, 0.5);
  float alpha = colour.a * (1.0 - smoothstep(1.0 - soft, 1.0, reach(gl_PointCoord * 2.0 - 1.0)));
  fragment = vec4(colour.rgb * alpha, alpha);
}`;

/** Whether WebGL is missing here or done in software; asked of a canvas of its own, for one has one kind of context. */
function isSlow() {
  const gl = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  if (!gl) return true;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}

export class WebGLPoints {
  /** A renderer on a canvas; null where there is no WebGL 2, or one in software, which is slower than a plain canvas. */
  static on(canvas) {
    if (isSlow()) return null;
    const gl = canvas.getContext("webgl2", { antialias: false });
    return gl ? new WebGLPoints(canvas, gl) : null;
  }

  constructor(canvas, gl) {
    this.canvas = canvas;
    this.gl = gl;
    this.data = null;
    this.most = 400_000; // points that can be drawn in each frame of a movement
    this.#setUp();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#setUp();
      if (this.data) this.setData(this.data);
      this.onrestored?.();
    });
  }

  #setUp() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.program = program;
    this.uniforms = {};
    for (const name of ["view", "size", "alpha", "highlight", "anySelected", "doubt", "front", "sureColour", "doubtfulColour", "filtered"]) {
      this.uniforms[name] = gl.getUniformLocation(program, name);
    }
    this.buffers = {};
    this.attributes = {};
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  }

  #fillPalette({ by, groups }) {
    const { gl } = this;
    const rows = Math.ceil(groups / PALETTE);
    const texels = new Uint8Array(4 * PALETTE * rows);
    texels.set(palette(by, groups).flat());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, PALETTE, rows, 0, gl.RGBA, gl.UNSIGNED_BYTE, texels);
  }

  /** Typed arrays: positions (x, y in turns), labels, grouping, confidences, standing; `groups`, one above all of the
   * grouping, and `by`, which grouping it is. */
  setData(data) {
    const { gl } = this;
    this.data = data;
    this.length = data.labels.length;
    this.#fill("position", data.positions, 2, gl.FLOAT, false);
    this.#fill("cluster", data.labels, 1, gl.UNSIGNED_SHORT, false);
    this.#fill("group", data.grouping, 1, gl.UNSIGNED_SHORT, false);
    this.#fill("confidence", data.confidences, 1, gl.FLOAT, false);
    this.#fillPalette(data);
    this.setStanding();
  }

  /** Take that other points are selected or let through, in the array that was given. */
  setStanding() {
    if (this.data) this.#fill("standing", this.data.standing, 1, this.gl.UNSIGNED_BYTE, false);
  }

  #fill(name, array, size, type, normalised) {
    const { gl } = this;
    const at = gl.getAttribLocation(this.program, name);
    this.buffers[name] ??= gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, array, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, normalised, 0, 0);
    this.attributes[name] = { at, size, type, normalised, bytes: size * array.BYTES_PER_ELEMENT };
    this.step = null;
  }

  /** Have only every so manieth point drawn. */
  #takeEvery(step) {
    if (this.step === step) return;
    const { gl } = this;
    for (const [name, { at, size, type, normalised, bytes }] of Object.entries(this.attributes)) {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
      gl.vertexAttribPointer(at, size, type, normalised, step * bytes, 0);
    }
    this.step = step;
  }

  /** Draw all points, or every so manieth for a `step`; `toScreen` has the factor `scale` and the offsets `left` and `top`, in CSS pixels. */
  draw(toScreen, { width, height, ratio, size, alpha, highlight, doubt, anySelected, filtered, step }) {
    const { gl, uniforms } = this;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.length) return;
    const { scale, left, top } = toScreen;
    // On the map y goes up; its 1 lies at `top`.
    const factor = [(2 * scale) / width, (2 * scale) / height];
    const offset = [(2 * left) / width - 1, 1 - (2 * (top + scale)) / height];
    gl.uniform4f(uniforms.view, ...factor, ...offset);
    gl.uniform1f(uniforms.size, size * ratio);
    gl.uniform1f(uniforms.alpha, alpha);
    gl.uniform1f(uniforms.highlight, highlight ?? -1);
    gl.uniform1f(uniforms.anySelected, anySelected ? 1 : 0);
    gl.uniform1f(uniforms.doubt, doubt ? 1 : 0);
    gl.uniform1f(uniforms.filtered, filtered ? 1 : 0);
    gl.uniform3f(uniforms.sureColour, ...DOUBT_COLOURS.sure.map((v) => v / 255));
    gl.uniform3f(uniforms.doubtfulColour, ...DOUBT_COLOURS.doubtful.map((v) => v / 255));
    this.#takeEvery(Math.min(step, MOST_STEP));
    const dims = anySelected || highlight !== null || filtered;
    for (const front of dims ? [0, 1] : [0]) {
      gl.uniform1f(uniforms.front, front);
      gl.drawArrays(gl.POINTS, 0, Math.ceil(this.length / this.step));
    }
  }
}
