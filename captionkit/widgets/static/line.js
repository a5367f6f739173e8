// A line of the list: one window's picture, caption, state and marks.

import { clock, make } from "./dom.js";

export const LINE_PX = 76; // height of a line, as in browser.css

export function makeLine() {
  const line = make("div", { class: "ckb-row", role: "option" });
  line.parts = {
    tick: make("span", { class: "ckb-tick", "aria-hidden": "true" }),
    picture: make("img", { class: "ckb-thumb", alt: "" }),
    head: make("span", { class: "ckb-head" }),
    number: make("span", { class: "ckb-number" }),
    when: make("span", { class: "ckb-when" }),
    text: make("span", { class: "ckb-caption" }),
    state: make("span", { class: "ckb-state" }),
    marks: make("span", { class: "ckb-marks" }),
  };
  const { tick, picture, head, number, when, text, state, marks } = line.parts;
  const name = make("span", { class: "ckb-name" }, head, number);
  const said = make("span", { class: "ckb-said-of" }, when, state, marks);
  const first = make("span", { class: "ckb-line" }, name, said);
  line.append(tick, picture, make("span", { class: "ckb-body" }, first, text));
  picture.addEventListener("error", () => picture.removeAttribute("src"));
  return line;
}

/** Show a row's facts in a line; without a row, that it loads. */
export function fillLine(line, row, { id, position, count, chosen, ticked, picture, mark }) {
  line.id = id;
  line.style.transform = `translateY(${position * LINE_PX}px)`;
  line.setAttribute("aria-posinset", position + 1);
  line.setAttribute("aria-setsize", count);
  line.setAttribute("aria-selected", String(chosen));
  line.classList.toggle("ckb-blank", !row);
  if (row) fillRow(line, row, ticked, mark);
  else clearRow(line, position);
  fillPicture(line.parts.picture, picture);
}

function clearRow(line, position) {
  const { head, number, when, text, state, marks } = line.parts;
  line.setAttribute("aria-label", `window ${position + 1}, loading`);
  for (const part of [head, number, when, text, state, marks]) part.textContent = "";
}

function fillRow(line, row, ticked, mark) {
  const { tick, head, number, when, text, state, marks } = line.parts;
  const failed = Boolean(row.error && !row.text);
  const stage = row.state === "running" && row.stage > 1 ? " stage 2" : "";
  const stars = "★".repeat(row.rating || 0);
  line.setAttribute("aria-checked", String(ticked));
  tick.textContent = ticked ? "☑" : "☐";
  // A long name is cut; the window's number and time stay.
  head.textContent = row.video;
  head.title = row.video;
  number.textContent = ` ${row.window}`;
  when.textContent = `${clock(row.start)}–${clock(row.end)}`;
  state.textContent = `${mark} ${row.state}${stage}`;
  state.dataset.state = row.state;
  const elsewhere = row.elsewhere.length ? `reviewed in run ${row.elsewhere.join(", ")}` : "";
  // What is of the window, not of its caption, says so.
  const said = [
    ...row.faults,
    row.edited ? "edited" : "",
    stars,
    ...row.tags.map((each) => `#${each}`),
    row.noted ? "noted" : "",
    ...row.windowTags.map((each) => `window #${each}`),
    row.windowNoted ? "window noted" : "",
  ];
  said.push(elsewhere);
  marks.textContent = said.filter(Boolean).join(" · ");
  marks.title = marks.textContent;
  text.textContent = failed ? row.error : row.text + (row.cut ? "…" : "");
  text.classList.toggle("ckb-error", failed);
  const facts = [
    `${row.video} window ${row.window}`,
    `${clock(row.start)} to ${clock(row.end)}`,
    row.state,
    ...row.faults,
    ...(ticked ? ["ticked"] : []),
  ];
  line.setAttribute("aria-label", `${facts.join(", ")}. ${text.textContent}`);
}

function fillPicture(picture, url) {
  if (!url) picture.removeAttribute("src");
  else if (picture.src !== url) picture.src = url;
}
