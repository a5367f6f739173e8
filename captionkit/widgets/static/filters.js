// Filters: words to search for, and a select for each list of choices that the kernel offers.

import { fillSelect, make, makeButton, makeSelect } from "./dom.js";

const TYPING_MS = 150; // a search begins once typing rests so long

export class Filters {
  constructor(model, focusList) {
    this.model = model;
    this.focusList = focusList;
    this.typing = 0;
    this.search = make("input", {
      type: "search",
      placeholder: "Text, names, notes, tags ( / )",
      "aria-label": "Search captions",
      title: `Searches ${model.get("_searched")}`,
    });
    this.selects = new Map(); // name of a choice → its select
    for (const [name, choices] of Object.entries(model.get("_choices"))) {
      const select = makeSelect(name[0].toUpperCase() + name.slice(1), choices);
      select.addEventListener("change", () => this.write());
      this.selects.set(name, select);
    }
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.write(), TYPING_MS);
    });
    this.search.addEventListener("keydown", (event) => this.onKey(event));
    this.more = makeButton("Filters", () => this.unfold(this.folded.hidden), {
      title: "Filter and sort by state, video, check, rating, review and tag",
    });
    this.saved = makeSelect("Saved filter", []);
    this.saved.addEventListener("change", () => this.useSaved());
    this.name = make("input", {
      type: "text",
      placeholder: "Save filter as",
      "aria-label": "Save filter as",
      title: "A name for this filter (Enter saves; an empty filter deletes the name)",
    });
    this.name.addEventListener("keydown", (event) => this.onName(event));
    const again = makeButton("Look again", () => model.send({ kind: "look-again" }), {
      title: "Open files that were replaced, and new files of the folder",
    });
    const folded = [...this.selects.values(), this.saved, this.name, again];
    this.folded = make("div", { class: "ckb-folded" }, ...folded);
    this.root = make("div", { class: "ckb-filters" }, this.search, this.more, this.folded);
    this.unfold(false);
    this.read();
    this.readSaved();
  }

  useSaved() {
    if (this.saved.value) this.model.send({ kind: "use-filter", name: this.saved.value });
    this.saved.value = "";
  }

  onName(event) {
    event.stopPropagation();
    const name = this.name.value.trim();
    if (event.key !== "Enter" || !name) return;
    this.model.send({ kind: "save-filter", name });
    this.name.value = "";
  }

  readSaved() {
    const names = this.model.get("_saved").map((name) => ({ value: name, label: name }));
    fillSelect(this.saved, [{ value: "", label: "saved filters" }, ...names]);
    this.saved.hidden = !names.length;
  }

  /** Show or fold the selects. */
  unfold(on) {
    this.folded.hidden = !on;
    this.more.setAttribute("aria-expanded", String(on));
  }

  onKey(event) {
    event.stopPropagation();
    if (!["Escape", "Enter", "ArrowDown"].includes(event.key)) return;
    if (event.key === "Escape") this.search.value = "";
    else event.preventDefault();
    this.write();
    this.focusList();
  }

  /** Send what is chosen to the kernel. */
  write() {
    const filter = {};
    const words = this.search.value.trim();
    if (words) filter.search = words;
    for (const [name, select] of this.selects) {
      // An option's value is text; the kernel's own value may be a number.
      const { value } = this.model.get("_choices")[name][select.selectedIndex] ?? {};
      if (value) filter[name] = value;
    }
    this.model.set("filter", filter);
    this.model.save_changes();
  }

  /** Show what the kernel says is chosen. */
  read() {
    const filter = this.model.get("filter");
    if (document.activeElement !== this.search) this.search.value = filter.search || "";
    for (const [name, select] of this.selects) select.value = filter[name] || "";
    const count = Object.keys(filter).filter((name) => this.selects.has(name)).length;
    this.more.textContent = count ? `Filters (${count})` : "Filters";
    this.more.classList.toggle("on", count > 0);
  }

  /** Offer the choices that the kernel sent. */
  readChoices() {
    for (const [name, choices] of Object.entries(this.model.get("_choices"))) {
      fillSelect(this.selects.get(name), choices);
    }
    this.read();
  }

  close() {
    clearTimeout(this.typing);
  }
}
