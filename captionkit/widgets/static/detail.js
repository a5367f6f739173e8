// Detail: the chosen window's whole text, its rating, and a form for a better text.

import { clock, make, makeButton } from "./dom.js";

const RATINGS = [1, 2, 3, 4, 5];
const NO_CAPTION = "No caption yet. Press Enter to caption this window.";

export class Detail {
  constructor(model, player, focusList) {
    this.model = model;
    this.focusList = focusList;
    this.index = -1; // of the window that is shown
    this.row = null; // what the list shows of it
    this.raw = ""; // its text, control marks included
    const tools = this.buildTools();
    this.buildForm();
    this.title = make("div", { class: "ckb-title" });
    this.text = make("div", {
      class: "ckb-text",
      tabindex: 0,
      role: "region",
      "aria-label": "Caption",
    });
    this.error = make("div", { class: "ckb-error", role: "alert" });
    const parts = [this.title, player.root, this.text, this.error, tools, this.form];
    this.root = make("div", { class: "ckb-detail" }, ...parts);
    this.fill();
  }

  buildTools() {
    this.stars = RATINGS.map((number) =>
      makeButton("★", () => this.rate(number), {
        "aria-label": `Rate ${number}`,
        title: `Rate ${number} (key ${number})`,
      }),
    );
    const group = { class: "ckb-stars", role: "group", "aria-label": "Rating" };
    this.editButton = makeButton("Edit", () => this.edit(), {
      title: "Write a better text (e)",
    });
    this.captionButton = makeButton(
      "Caption this window",
      () => this.model.send({ kind: "caption", index: this.index }),
      { title: "Caption this window before all others (Enter)" },
    );
    const parts = [make("div", group, ...this.stars), this.editButton, this.captionButton];
    return make("div", { class: "ckb-tools" }, ...parts);
  }

  buildForm() {
    this.area = make("textarea", { "aria-label": "Better caption", rows: 4 });
    const save = makeButton("Save", () => this.save(this.area.value));
    const cancel = makeButton("Cancel", () => this.closeForm());
    this.revert = makeButton("Back to the model's text", () => this.save(""));
    const tools = make("div", { class: "ckb-tools" }, save, cancel, this.revert);
    this.form = make("div", { class: "ckb-form" }, this.area, tools);
    this.form.hidden = true;
    this.area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.closeForm();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save.click();
    });
  }

  /** Show a window, by its index, with its row of the list where there is one. */
  show(index, row = null) {
    if (index !== this.index) {
      this.form.hidden = true;
      this.text.hidden = false;
      this.text.textContent = "";
      this.error.textContent = "";
      this.raw = "";
    }
    this.index = index;
    this.row = row || (index < 0 ? null : this.row);
    this.fill();
  }

  /** Show the whole text that the kernel sent. */
  take(message) {
    if (message.index !== this.index) return;
    this.row = message.row;
    this.raw = message.raw;
    this.text.textContent = message.text || (message.error ? "" : NO_CAPTION);
    this.text.classList.toggle("ckb-empty", !message.text);
    this.text.setAttribute("aria-busy", String(this.row.state === "running"));
    this.error.textContent = message.error;
    this.fill();
  }

  fill() {
    const row = this.row;
    const hasText = Boolean(row?.text);
    const rating = row?.rating || 0;
    this.title.textContent = row
      ? `${row.video}, window ${row.window} · ${clock(row.start)} – ${clock(row.end)}`
      : "Choose a window";
    this.captionButton.disabled = !row;
    this.editButton.disabled = !hasText;
    this.revert.hidden = !row?.edited;
    this.stars.forEach((button, at) => {
      button.disabled = !hasText;
      button.classList.toggle("on", rating > at);
      button.setAttribute("aria-pressed", String(rating === at + 1));
    });
  }

  /** Rate the caption; the same rating again takes it back. */
  rate(number) {
    if (!this.row?.text) return;
    const rating = this.row.rating === number ? null : number;
    this.model.send({ kind: "rate", index: this.index, rating });
  }

  /** Open the form. */
  edit() {
    if (!this.row?.text) return;
    this.form.hidden = false;
    this.text.hidden = true;
    this.area.value = this.raw;
    this.area.focus();
  }

  closeForm() {
    this.form.hidden = true;
    this.text.hidden = false;
    this.focusList();
  }

  save(text) {
    this.model.send({ kind: "edit", index: this.index, text });
    this.closeForm();
  }
}
