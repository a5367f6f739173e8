// Help: the keys of the window browser.

import { make, makeButton } from "./dom.js";

const KEYS = [
  ["↑ ↓ or k j", "choose the window above or below"],
  ["Page, Home, End", "go further"],
  ["Space", "play or pause"],
  ["Enter", "caption this window before all others"],
  ["1 to 5", "rate; the same again takes it back"],
  ["e", "write a better text (Ctrl+Enter saves)"],
  ["t, n", "tags, note of the caption"],
  ["T, N", "tags, note of the window"],
  ["r", "next caption that nobody reviewed"],
  ["x, Shift+↑ ↓", "tick this window, tick on the way"],
  ["u, U", "undo the last step, make it again"],
  ["/", "search"],
  ["?", "show or hide this"],
];

export class Help {
  constructor(focusList) {
    this.focusList = focusList;
    const rows = KEYS.map(([keys, what]) =>
      make("tr", {}, make("th", { scope: "row", text: keys }), make("td", { text: what })),
    );
    this.close = makeButton("✕", () => this.toggle(), { "aria-label": "Close the keys" });
    const table = make("table", {}, make("tbody", {}, ...rows));
    this.root = make(
      "div",
      { class: "ckb-help", role: "dialog", "aria-label": "Keys" },
      this.close,
      table,
    );
    this.root.hidden = true;
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" && event.key !== "?") return;
      event.stopPropagation();
      this.toggle();
    });
  }

  toggle() {
    this.root.hidden = !this.root.hidden;
    if (this.root.hidden) this.focusList();
    else this.close.focus();
  }
}
