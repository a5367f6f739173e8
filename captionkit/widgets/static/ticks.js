// Ticks: the indexes of the ticked windows, kept in the kernel as first, last, first, last, ….

export class Ticks {
  constructor(model, onChange) {
    this.model = model;
    this.onChange = onChange;
    this.indexes = new Set();
    this.read();
  }

  get size() {
    return this.indexes.size;
  }

  has(index) {
    return this.indexes.has(index);
  }

  /** Tick or untick windows. */
  set(indexes, on) {
    for (const index of indexes) {
      if (on) this.indexes.add(index);
      else this.indexes.delete(index);
    }
    this.write();
  }

  clear() {
    this.indexes.clear();
    this.write();
  }

  read() {
    this.indexes.clear();
    const flat = this.model.get("selection");
    for (let at = 0; at < flat.length; at += 2) {
      for (let index = flat[at]; index <= flat[at + 1]; index++) this.indexes.add(index);
    }
  }

  write() {
    const flat = [];
    for (const index of [...this.indexes].sort((a, b) => a - b)) {
      if (flat.length && flat[flat.length - 1] === index - 1) flat[flat.length - 1] = index;
      else flat.push(index, index);
    }
    this.model.set("selection", flat);
    this.model.save_changes();
    this.onChange();
  }
}
