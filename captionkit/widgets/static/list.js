// WindowList: a virtual list of rows; only those on screen are in the page or asked for.
//
// A position is a row's number in the filtered list, an index its window's number in the session.

import { make, makeUrl, remember } from "./dom.js";
import { fillLine, LINE_PX, makeLine } from "./line.js";

const AHEAD = 6; // rows asked for above and below those on screen
const KEPT_PICTURES = 600;

export class WindowList {
  constructor(model, view, ticks) {
    this.model = model;
    this.view = view; // names this view of the model, in messages and element ids
    this.ticks = ticks;
    this.rows = new Map(); // position → row
    this.lines = new Map(); // position → element
    this.pictures = new Map(); // index → object URL, "" where there is none
    this.asked = new Set(); // indexes whose pictures are under way
    this.cursor = -1; // position of the chosen row
    this.wanted = ""; // the last range that was asked for
    this.painting = 0;
    this.marks = new Map(model.get("_choices").state.map(({ value, mark }) => [value, mark]));
    this.spacer = make("div", { class: "ckb-spacer", role: "presentation" });
    const says = { role: "listbox", "aria-label": "Windows", "aria-multiselectable": "true" };
    this.root = make("div", { class: "ckb-list", tabindex: 0, ...says }, this.spacer);
    this.root.addEventListener("scroll", () => this.repaint());
    this.sized = new ResizeObserver(() => this.repaint());
    this.sized.observe(this.root);
  }

  get count() {
    return this.model.get("_count");
  }

  /** Rows that a page of the list holds, for the keyboard. */
  get page() {
    return Math.max(1, Math.floor(this.root.clientHeight / LINE_PX) - 1);
  }

  focus() {
    this.root.focus({ preventScroll: true });
  }

  /** The position of the row that an event is on, or -1. */
  positionOf(event) {
    const line = event.target.closest(".ckb-row");
    return line ? Number(line.id.slice(this.view.length + 1)) : -1;
  }

  range() {
    const first = Math.floor(this.root.scrollTop / LINE_PX);
    const last = Math.ceil((this.root.scrollTop + this.root.clientHeight) / LINE_PX);
    return [Math.max(0, first - AHEAD), Math.min(this.count, last + AHEAD)];
  }

  /** Ask for the rows on screen, unless they were asked for last. */
  ask() {
    const [first, last] = this.range();
    const key = `${this.model.get("_version")}:${first}:${last}`;
    if (last <= first || key === this.wanted) return;
    this.wanted = key;
    this.model.send({ kind: "range", view: this.view, first, last });
  }

  repaint() {
    this.painting ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.painting = 0;
    const [first, last] = this.range();
    this.spacer.style.height = `${this.count * LINE_PX}px`;
    const free = [];
    for (const [position, line] of this.lines) {
      if (position >= first && position < last) continue;
      this.lines.delete(position);
      free.push(line);
    }
    for (let position = first; position < last; position++) {
      if (this.lines.has(position)) continue;
      const line = free.pop() || makeLine();
      this.lines.set(position, line);
      if (!line.isConnected) this.spacer.append(line);
    }
    for (const line of free) line.remove();
    this.paintLines();
    this.ask();
  }

  paintLines() {
    for (const [position, line] of this.lines) {
      const row = this.rows.get(position);
      fillLine(line, row, {
        id: this.idOf(position),
        position,
        count: this.count,
        chosen: position === this.cursor,
        ticked: row !== undefined && this.ticks.has(row.index),
        picture: this.pictures.get(row?.index),
        mark: this.marks.get(row?.state),
      });
    }
    const active = this.lines.has(this.cursor) ? this.idOf(this.cursor) : "";
    this.root.setAttribute("aria-activedescendant", active);
  }

  idOf(position) {
    return `${this.view}-${position}`;
  }

  /** Scroll until a position is on screen. */
  reveal(position) {
    const top = position * LINE_PX;
    const height = this.root.clientHeight;
    if (top < this.root.scrollTop) this.root.scrollTop = top;
    else if (top + LINE_PX > this.root.scrollTop + height) {
      this.root.scrollTop = top + LINE_PX - height;
    }
  }

  /** Keep rows that the kernel sent, and ask for their pictures. */
  takeRows(rows) {
    for (const row of rows) this.rows.set(row.position, row);
    const missing = rows
      .map((row) => row.index)
      .filter((index) => !this.pictures.has(index) && !this.asked.has(index));
    if (missing.length) {
      for (const index of missing) this.asked.add(index);
      this.model.send({ kind: "thumbs", view: this.view, indexes: [...this.asked] });
    }
    this.repaint();
  }

  takePicture(index, bytes) {
    this.asked.delete(index);
    const url = bytes.byteLength ? makeUrl(bytes, "image/jpeg") : "";
    remember(this.pictures, index, url, KEPT_PICTURES, URL.revokeObjectURL);
    this.repaint();
  }

  /** Drop all rows; the list was filtered or sorted anew. */
  forgetRows() {
    this.rows.clear();
    this.wanted = "";
    this.repaint();
  }

  /** Drop all pictures; they are of other windows. */
  forgetPictures() {
    this.pictures.forEach((url) => {
      URL.revokeObjectURL(url);
    });
    this.pictures.clear();
    this.asked.clear();
  }

  close() {
    this.sized.disconnect();
    cancelAnimationFrame(this.painting);
    this.forgetPictures();
  }
}
