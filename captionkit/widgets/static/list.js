// WindowList: a virtual list of rows; only those on screen are in the page or asked for.
//
// A position is a row's number in the filtered list, an index its window's number in the session.

import { make, makeUrl, remember } from "./dom.js";
import { fillLine, LINE_PX, makeLine } from "./line.js";

const AHEAD = 10; // rows asked for above and below those on screen
const KEPT_PICTURES = 600;
const ASK_EVERY_MS = 60; // a fling asks for the rows where it is, not for all that it passes

export class WindowList {
  constructor(model, view, ticks) {
    this.model = model;
    this.view = view; // names this view of the model, in messages and element ids
    this.ticks = ticks;
    this.rows = new Map(); // position → row
    this.lines = new Map(); // position → element
    this.pictures = new Map(); // index → object URL, "" where there is none
    this.wants = new Set(); // indexes whose pictures were asked for last
    this.asked = 0; // when rows were asked for last
    this.asking = 0; // timer of the next question
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

  /** Ask soon for what is on screen; what was scrolled past meanwhile is never asked for. */
  askSoon() {
    const wait = this.asked + ASK_EVERY_MS - performance.now();
    this.asking ||= setTimeout(() => this.ask(), Math.max(0, wait));
  }

  /** Ask for the rows on screen and their pictures, unless they were asked for last. */
  ask() {
    this.asking = 0;
    this.asked = performance.now();
    this.askPictures();
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
    this.askSoon();
  }

  /** Ask for the pictures that rows on screen lack; a new question takes the place of the last one. */
  askPictures() {
    const [first, last] = this.range();
    const lacking = [];
    for (let position = first; position < last; position++) {
      const row = this.rows.get(position);
      if (row && !this.pictures.has(row.index)) lacking.push([position, row.index]);
    }
    // Rows that are seen come before the ones around them.
    const middle = (this.root.scrollTop + this.root.clientHeight / 2) / LINE_PX - 0.5;
    lacking.sort(([one], [two]) => Math.abs(one - middle) - Math.abs(two - middle));
    const indexes = lacking.map(([, index]) => index);
    if (indexes.every((index) => this.wants.has(index))) return; // the rest is on its way
    this.wants = new Set(indexes);
    this.model.send({ kind: "thumbs", view: this.view, indexes });
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

  /** Keep rows that the kernel sent. */
  takeRows(rows) {
    for (const row of rows) this.rows.set(row.position, row);
    this.repaint();
  }

  takePicture(index, bytes) {
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
    this.wants.clear();
  }

  close() {
    this.sized.disconnect();
    cancelAnimationFrame(this.painting);
    clearTimeout(this.asking);
    this.forgetPictures();
  }
}
