// Talking to the server that the page came from, and to no other.

import { say } from "./dom.js";

export const start = JSON.parse(document.querySelector('meta[name="clusterloom-start"]').content);

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new ApiError("explore no longer answers: has it been ended?", 0);
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 403) throw new ApiError("explore has been started anew: open the address that it printed; this page then goes on by itself", 403);
  throw new ApiError(body.error ?? `the server refused this (${answer.status})`, answer.status);
}

export const get = (path) => ask(path);
export const getJson = async (path) => (await get(path)).json();
export const getBytes = async (path) => (await get(path)).arrayBuffer();

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-clusterloom-token": start.token },
    body: JSON.stringify(body),
  });
export const postJson = async (path, body) => (await post(path, body)).json();
export const postImage = async (path, body) => createImageBitmap(await (await post(path, body)).blob());

export const upload = async (file) => {
  const headers = { "content-type": "application/octet-stream", "x-clusterloom-token": start.token };
  return (await ask("/api/drop", { method: "POST", headers, body: file })).json();
};

export const originalUrl = (row) => `/original/${row}.png?v=${start.version}`;
export const imageUrl = (row) => `/image/${row}.png?v=${start.version}`;
export const seenUrl = (row) => `/seen/${row}.png?v=${start.version}`;
/** The picture that a tile was cut from, as it is coloured after an edit. */
export const placeUrl = (row, revision) => `/place/${row}.png?r=${revision}`;
export const spriteUrl = (rows) => `/sprites.png?rows=${rows.join(",")}&v=${start.version}`;

/** Run an action of the user; what goes wrong is said instead of thrown. */
export const attempt = async (act) => {
  try {
    return await act();
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
};

/** A picture that came as base64 inside JSON. */
export const decoded = (base64) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
};
