// Elements, clock times and bounded caches, for all views.

/** Make an element: `class` and `text` become properties, all else attributes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Make a button that calls `act` when it is pressed. */
export function makeButton(text, act, attributes = {}) {
  const button = make("button", { type: "button", text, ...attributes });
  button.addEventListener("click", act);
  return button;
}

/** Make a select of choices, each `{value, label}`. */
export function makeSelect(label, choices) {
  const select = make("select", { "aria-label": label, title: label });
  fillSelect(select, choices);
  return select;
}

/** Offer other choices in a select. */
export function fillSelect(select, choices) {
  const options = choices.map(({ value, label }) => make("option", { value, text: label }));
  select.replaceChildren(...options);
}

/** Write seconds as minutes and seconds. */
export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

/** Keep the newest `most` entries of a map; `drop` frees what falls out. */
export function remember(map, key, value, most, drop) {
  map.delete(key);
  map.set(key, value);
  while (map.size > most) {
    const [oldest, kept] = map.entries().next().value;
    map.delete(oldest);
    drop(kept);
  }
}

/** Make an address of bytes from the kernel; whoever keeps it revokes it. */
export function makeUrl(bytes, type) {
  return URL.createObjectURL(new Blob([bytes], { type }));
}
