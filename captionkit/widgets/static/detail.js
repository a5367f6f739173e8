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
    this.nowTitle = make("div", { class: "ckb-label", text: "Now" });
    this.run = null; // whose caption is shown
    this.recipe = makeButton("Use recipe", () => this.useRecipe(), {
      class: "ckb-small",
      title: "Fill the form with the recipe of this run",
    });
    this.elsewhere = makeButton("", () => this.showElsewhere(), { class: "ckb-small" });
    this.beforeTitle = make("div", { class: "ckb-label" });
    this.before = make("div", {
      class: "ckb-text ckb-before",
      tabindex: 0,
      role: "region",
      "aria-label": "Text of the run before",
    });
    const head = make("div", { class: "ckb-head-of" }, this.nowTitle, this.recipe, this.elsewhere);
    const words = this.buildWords("caption", ["t", "n"]);
    const ofWindow = this.buildWords("window", ["T", "N"]);
    [this.tags, this.note] = words.inputs;
    [this.windowTags, this.windowNote] = ofWindow.inputs;
    this.fields = [...words.inputs, ...ofWindow.inputs];
    const now = [head, this.text, this.error, this.form, tools, words.root];
    const captions = [...now, this.beforeTitle, this.before];
    const side = make("div", { class: "ckb-captions" }, ...captions);
    const film = make("div", { class: "ckb-film" }, player.root, ofWindow.root);
    this.root = make("div", { class: "ckb-detail" }, this.title, film, side);
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
      "Caption",
      () => this.model.send({ kind: "caption", index: this.index }),
      {
        "aria-label": "Caption this window",
        title: "Caption this window before all others (Enter)",
      },
    );
    const parts = [make("div", group, ...this.stars), this.editButton, this.captionButton];
    return make("div", { class: "ckb-tools" }, ...parts);
  }

  /** Fields for tags and a note of a caption or of its window, stored when they are left. */
  buildWords(of, keys) {
    const inputs = ["Tags", "Note"].map((name, at) => {
      const label = of === "window" ? `Window ${name.toLowerCase()}` : name;
      const input = make("input", {
        type: "text",
        placeholder: `${name} (${keys[at]})`,
        "aria-label": label,
        title: `${name} of this ${of}${name === "Tags" ? ", with commas" : ""} (key ${keys[at]})`,
      });
      input.addEventListener("change", () => {
        const kind = name === "Tags" ? "tag" : "note";
        this.model.send({ kind, of, index: this.index, text: input.value });
      });
      input.addEventListener("keydown", (event) => {
        event.stopPropagation();
        if (event.key === "Escape") input.value = input.defaultValue;
        if (event.key === "Escape" || event.key === "Enter") this.focusList();
      });
      return input;
    });
    const label = make("span", {
      class: "ckb-label",
      text: of === "window" ? "Window" : "Caption",
    });
    return { inputs, root: make("div", { class: "ckb-words" }, label, ...inputs) };
  }

  useRecipe() {
    this.model.send({ kind: "use-recipe", run: this.run });
  }

  showElsewhere() {
    this.model.send({ kind: "show-run", run: this.row.elsewhere.at(-1) });
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
      this.nowTitle.textContent = "Now";
      this.fillBefore(null);
      this.raw = "";
      this.run = null;
      for (const input of this.fields) input.value = "";
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
    this.run = message.run;
    const { tags, note, windowTags, windowNote } = message;
    for (const [at, text] of [tags, note, windowTags, windowNote].entries()) {
      const input = this.fields[at];
      if (document.activeElement === input) continue;
      input.value = text;
      input.defaultValue = text;
    }
    this.fillNow(message);
    this.fillBefore(message.before);
    this.text.classList.toggle("ckb-empty", !message.text);
    this.text.setAttribute("aria-busy", String(this.row.state === "running"));
    this.error.textContent = message.error;
    this.fill();
  }

  /** Show the text, with the words marked that differ from the one before, or are shared with it. */
  fillNow({ text, error, run, marks }) {
    this.nowTitle.textContent = run === null ? "Now" : `Now · run ${run}`;
    if (!marks.length) {
      this.text.textContent = text || (error ? "" : NO_CAPTION);
      return;
    }
    const tags = { new: "ins", shared: "mark" };
    const pieces = marks.map(([kind, piece]) =>
      tags[kind] ? make(tags[kind], { text: piece }) : piece,
    );
    this.text.replaceChildren(...pieces);
  }

  fillBefore(before) {
    this.beforeTitle.textContent = before
      ? `Before · run ${before.run} ${"★".repeat(before.rating || 0)}`
      : "Before";
    this.before.textContent = before ? before.text : "No other run has this window.";
    this.before.classList.toggle("ckb-empty", !before);
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
    this.tags.disabled = !hasText;
    this.note.disabled = !hasText;
    this.windowTags.disabled = !row;
    this.windowNote.disabled = !row;
    this.recipe.hidden = this.run === null;
    this.elsewhere.hidden = !row?.elsewhere.length;
    if (row) this.elsewhere.textContent = `Reviewed in run ${row.elsewhere.at(-1)}`;
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
