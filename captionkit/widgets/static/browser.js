// The window browser: a list of all windows, and a player for the chosen one.
// All text from videos and models is set as textContent; nothing is ever parsed as HTML.

import { initialize } from "./awake.js";
import { Detail } from "./detail.js";
import { make, makeButton } from "./dom.js";
import { Filters } from "./filters.js";
import { Help } from "./help.js";
import { WindowList } from "./list.js";
import { Player } from "./player.js";
import { Ticks } from "./ticks.js";

const SETTLE_MS = 70; // frames are asked for once the selection rests so long
const CONTROLS = ["INPUT", "SELECT", "TEXTAREA", "BUTTON"];
let views = 0;

class Page {
  constructor(model) {
    this.model = model;
    this.view = `v${++views}-${Date.now()}`;
    this.index = -1; // of the chosen window
    this.anchor = -1; // position where a range of ticks begins
    this.late = new Map(); // positions that were ticked before their rows came
    this.settle = 0;
    const focusList = () => this.list.focus();
    this.ticks = new Ticks(model, () => this.paintTicks());
    this.list = new WindowList(model, this.view, this.ticks);
    this.player = new Player(model);
    this.detail = new Detail(model, this.player, focusList);
    this.filters = new Filters(model, focusList);
    this.build();
    this.list.root.addEventListener("click", (event) => this.onClick(event));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.handlers = this.makeHandlers();
    for (const [name, handler] of Object.entries(this.handlers)) model.on(name, handler);
    this.paintStatus();
    this.onVersion();
    this.onValue();
  }

  build() {
    const send = (kind) => () => this.model.send({ kind });
    this.count = make("div", { class: "ckb-count" });
    this.status = make("div", { class: "ckb-status", role: "status", "aria-live": "polite" });
    this.stop = makeButton("Stop", send("stop"), { class: "ckb-stop" });
    const all = makeButton("Tick all", send("tick-all"), {
      title: "Tick every window of the list",
    });
    const none = makeButton("Untick", () => this.ticks.clear(), { title: "Tick none" });
    const keys = makeButton("?", () => this.help.toggle(), {
      title: "Keys (?)",
      "aria-label": "Keys",
    });
    const parts = [this.count, all, none, keys, this.status, this.stop];
    const foot = make("div", { class: "ckb-foot" }, ...parts);
    const left = make("div", { class: "ckb-left" }, this.filters.root, this.list.root, foot);
    this.problemText = make("span");
    const dismiss = makeButton("✕", send("dismiss"), { "aria-label": "Dismiss" });
    const alert = { class: "ckb-problem", role: "alert" };
    this.problem = make("div", alert, this.problemText, dismiss);
    const main = make("div", { class: "ckb-main" }, left, this.detail.root);
    this.help = new Help(() => this.list.focus());
    const says = { role: "group", "aria-label": "Window browser" };
    const own = { class: "ckb", "data-lm-suppress-shortcuts": "true", ...says };
    this.root = make("div", own, this.problem, main, this.help.root);
  }

  makeHandlers() {
    return {
      "change:_version": () => this.onVersion(),
      "change:_cut": () => this.onCut(),
      "change:value": () => this.onValue(),
      "change:selection": () => this.onSelection(),
      "change:filter": () => this.filters.read(),
      "change:_choices": () => this.filters.readChoices(),
      "change:_saved": () => this.filters.readSaved(),
      "change:_status": () => this.paintStatus(),
      "change:_busy": () => this.paintStatus(),
      "change:_problem": () => this.paintStatus(),
      "msg:custom": (message, buffers) => this.onMessage(message, buffers),
    };
  }

  paintStatus() {
    this.status.textContent = this.model.get("_status");
    this.stop.hidden = !this.model.get("_busy");
    this.problemText.textContent = this.model.get("_problem");
    this.problem.hidden = !this.model.get("_problem");
  }

  paintCount() {
    const { count } = this.list;
    const total = this.model.get("_total");
    const shown = count === total ? total : `${count} of ${total}`;
    const ticked = this.ticks.size ? `, ${this.ticks.size} ticked` : "";
    this.count.textContent = `${shown} windows${ticked}`;
  }

  paintTicks() {
    this.list.paintLines();
    this.paintCount();
  }

  /** Choose the row at a position of the list. */
  choose(position) {
    if (position < 0 || position >= this.list.count) return;
    this.list.cursor = position;
    this.list.reveal(position);
    this.list.paintLines();
    const row = this.list.rows.get(position);
    if (!row) {
      // Its index comes with its row.
      this.list.repaint();
      return;
    }
    this.show(row.index, row);
    if (this.model.get("value") !== this.index) {
      this.model.set("value", this.index);
      this.model.save_changes();
    }
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.ask(), SETTLE_MS);
  }

  show(index, row) {
    this.index = index;
    this.detail.show(index, row);
    this.player.show(index);
  }

  /** Ask for the chosen window's position, whole text and frames. */
  ask() {
    this.model.send({ kind: "find", index: this.index });
    if (this.player.lacksFrames()) this.model.send({ kind: "frames", index: this.index });
  }

  /** Tick or untick the row at a position; without `on`, the other way round. */
  tick(position, on) {
    const row = this.list.rows.get(position);
    if (row) this.ticks.set([row.index], on ?? !this.ticks.has(row.index));
    else this.late.set(position, on);
  }

  tickRange(from, to) {
    const indexes = [];
    for (let at = Math.min(from, to); at <= Math.max(from, to); at++) {
      if (this.list.rows.has(at)) indexes.push(this.list.rows.get(at).index);
    }
    this.ticks.set(indexes, true);
  }

  onClick(event) {
    const position = this.list.positionOf(event);
    if (position < 0) return;
    const onTick = event.target.classList.contains("ckb-tick");
    if (onTick || event.ctrlKey || event.metaKey) this.tick(position);
    else if (event.shiftKey && this.anchor >= 0) this.tickRange(this.anchor, position);
    else this.choose(position);
    this.anchor = position;
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // What is typed here is not for JupyterLab.
    event.stopPropagation();
    if (CONTROLS.includes(event.target.tagName)) return;
    const moved = this.moveTo(event.key);
    if (moved !== null) {
      this.choose(moved);
      if (event.shiftKey) this.tick(moved, true);
    } else if (!this.act(event.key)) return;
    event.preventDefault();
  }

  /** The position that a key moves to, or null for a key of something else. */
  moveTo(key) {
    const { cursor, page, count } = this.list;
    const moves = {
      ArrowDown: cursor + 1,
      j: cursor + 1,
      ArrowUp: cursor - 1,
      k: cursor - 1,
      PageDown: cursor + page,
      PageUp: cursor - page,
      Home: 0,
      End: count - 1,
    };
    return Object.hasOwn(moves, key) ? Math.max(0, Math.min(count - 1, moves[key])) : null;
  }

  /** Do what a key stands for; false for a key that stands for nothing. */
  act(key) {
    if (key === " ") this.player.toggle();
    else if (key === "Enter") {
      if (this.index >= 0) this.model.send({ kind: "caption", index: this.index });
    } else if (/^[1-5]$/.test(key)) this.detail.rate(Number(key));
    else if (key === "e") this.detail.edit();
    else if (key === "x") this.tick(this.list.cursor);
    else if (key === "t") this.detail.tags.focus();
    else if (key === "n") this.detail.note.focus();
    else if (key === "T") this.detail.windowTags.focus();
    else if (key === "N") this.detail.windowNote.focus();
    else if (key === "r") this.model.send({ kind: "next" });
    else if (key === "u") this.model.send({ kind: "undo" });
    else if (key === "U") this.model.send({ kind: "redo" });
    else if (key === "?") this.help.toggle();
    else if (key === "/") this.filters.search.focus();
    else return false;
    return true;
  }

  onMessage(message, buffers) {
    const handlers = {
      rows: () => this.onRows(message),
      at: () => this.onPosition(message),
      thumb: () => this.list.takePicture(message.index, buffers[0]),
      detail: () => this.detail.take(message),
      frames: () => this.player.takeFrames(message, buffers),
      clip: () => this.player.takeClip(message, buffers),
      "no-frames": () => this.player.takeFailure(message),
      "no-clip": () => this.player.takeFailure(message),
    };
    handlers[message.kind]?.();
  }

  onRows({ version, rows }) {
    if (version !== this.model.get("_version")) return;
    this.list.takeRows(rows);
    for (const [position, on] of this.late) {
      if (!this.list.rows.has(position)) continue;
      this.late.delete(position);
      this.tick(position, on);
    }
    const { cursor } = this.list;
    const row = this.list.rows.get(cursor);
    if (row && row.index !== this.index) this.choose(cursor);
  }

  onPosition({ index, position }) {
    if (index !== this.index) return;
    this.list.cursor = position;
    if (position >= 0) this.list.reveal(position);
    this.list.repaint();
  }

  onVersion() {
    this.anchor = -1;
    this.late.clear();
    this.list.forgetRows();
    this.paintCount();
    if (this.index >= 0) this.model.send({ kind: "find", index: this.index });
  }

  /** Begin anew: the windows were cut anew, and nothing that is kept is about them. */
  onCut() {
    this.player.forget();
    this.list.forgetPictures();
    this.onVersion();
  }

  onValue() {
    const index = this.model.get("value");
    if (index === this.index) return;
    this.list.cursor = -1;
    this.show(index, null);
    if (index < 0) this.list.paintLines();
    else this.ask();
  }

  onSelection() {
    this.ticks.read();
    this.paintTicks();
  }

  close() {
    for (const [name, handler] of Object.entries(this.handlers)) this.model.off(name, handler);
    clearTimeout(this.settle);
    this.filters.close();
    this.player.close();
    this.list.close();
    try {
      this.model.send({ kind: "gone", view: this.view });
    } catch {
      // The kernel is gone too.
    }
    this.root.remove();
  }
}

function render({ model, el }) {
  const page = new Page(model);
  el.append(page.root);
  return () => page.close();
}

export default { initialize, render };
