// Small images for the map: asked for by the sheet, kept while there is room, drawn when they are there.

import { get, spriteUrl } from "../api.js";

const ON_A_SHEET = 128;
const COLUMNS = 16;
const KEPT = 8000; // images, also those on a sheet of which only others are needed

export class Thumbnails {
  constructor(arrived) {
    this.arrived = arrived;
    this.places = new Map(); // row -> [sheet, index]
    this.sheets = new Set(); // from the one that was used the longest ago
    this.kept = 0;
    this.wanted = [];
    this.asking = false;
  }

  /** Where a row's image is: { bitmap, x, y, width, height }; null if it is not here yet. */
  find(row) {
    const place = this.places.get(row);
    if (!place) return null;
    const [sheet, index] = place;
    this.sheets.delete(sheet);
    this.sheets.add(sheet);
    const { bitmap, width, height, columns } = sheet;
    return { bitmap, x: (index % columns) * width, y: Math.floor(index / columns) * height, width, height };
  }

  /** Ask for what is missing of these rows; what was asked for before and is not needed now is left. */
  want(rows) {
    this.wanted = rows.filter((row) => !this.places.has(row));
    this.#ask();
  }

  async #ask() {
    if (this.asking || this.wanted.length === 0) return;
    this.asking = true;
    const rows = this.wanted.splice(0, ON_A_SHEET);
    try {
      this.#keep(rows, await createImageBitmap(await (await get(spriteUrl(rows))).blob()));
      this.arrived();
    } catch {
      this.wanted = []; // the server has gone; the page says so elsewhere
    } finally {
      this.asking = false;
    }
    this.#ask();
  }

  #keep(rows, bitmap) {
    const columns = Math.min(COLUMNS, rows.length);
    const width = bitmap.width / columns;
    const height = bitmap.height / Math.ceil(rows.length / columns);
    const sheet = { bitmap, width, height, columns, rows };
    rows.forEach((row, index) => this.places.set(row, [sheet, index]));
    this.sheets.add(sheet);
    this.kept += rows.length;
    for (const oldest of this.sheets) if (this.kept > KEPT) this.#drop(oldest);
  }

  #drop(sheet) {
    for (const row of sheet.rows) if (this.places.get(row)?.[0] === sheet) this.places.delete(row);
    this.sheets.delete(sheet);
    this.kept -= sheet.rows.length;
    sheet.bitmap.close();
  }
}
