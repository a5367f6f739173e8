// The window browser: a virtual list of rows, and a player for the chosen window.
// All text from videos and models is set as textContent; nothing is ever parsed as HTML.

const ROW = 76; // height of a row in px, as in browser.css
const AHEAD = 6; // rows asked for above and below what is seen
const KEPT_WINDOWS = 24; // windows whose frames stay in the page
const KEPT_THUMBS = 600;
const SETTLE_MS = 70; // frames are asked for once the selection rests so long
const STATES = ["new", "waiting", "running", "done", "failed", "truncated", "looping"];
const FAULTS = ["truncated", "repeats", "empty", "echoes", "refuses", "unfinished", "invalid", "language"];
const SORTS = [["", "in order"], ["state", "by state"], ["rating", "best rated"], ["longest", "longest"], ["shortest", "shortest"]];
const MARKS = { new: "○", waiting: "◔", running: "◑", done: "●", failed: "✕" };
let views = 0;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const clock = (seconds) => {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
};

function choice(label, pairs) {
  const select = make("select", { "aria-label": label, title: label });
  for (const [value, text] of pairs) select.append(make("option", { value, text }));
  return select;
}

function remember(map, key, value, most, drop) {
  map.delete(key);
  map.set(key, value);
  while (map.size > most) {
    const [oldest, kept] = map.entries().next().value;
    map.delete(oldest);
    drop(kept);
  }
}

// What plays the frames that the model sees, or the window's clip.
function makePlayer(model) {
  const canvas = make("canvas", { role: "img", "aria-label": "Frames the model sees" });
  const video = make("video", { playsinline: "", muted: "", "aria-label": "The window's clip" });
  video.muted = true;
  const note = make("div", { class: "ckb-note" });
  const play = make("button", { type: "button", class: "ckb-play", "aria-label": "Play", title: "Play (space)", text: "▶" });
  const scrub = make("input", { type: "range", min: 0, max: 0, step: "any", value: 0, "aria-label": "Position" });
  const speed = choice("Speed", [["0.25", "¼×"], ["0.5", "½×"], ["1", "1×"], ["2", "2×"], ["4", "4×"]]);
  speed.value = "1";
  const mode = choice("What to play", [["frames", "model's frames"], ["clip", "clip"]]);
  const said = make("div", { class: "ckb-said" });
  const screen = make("div", { class: "ckb-screen" }, canvas, video, note);
  const bar = make("div", { class: "ckb-bar" }, play, scrub, speed, mode);
  const root = make("div", { class: "ckb-player" }, screen, bar, said);

  const frames = new Map(); // place → {images, seconds, start, end, size}
  const clips = new Map(); // place → object URL
  let place = -1, playing = false, at = 0, drawn = -1, tick = 0, before = 0;

  const shown = () => frames.get(place);
  const isClip = () => mode.value === "clip";
  function mark() {
    play.textContent = playing ? "⏸" : "▶";
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
  }
  function draw() {
    const film = shown();
    if (!film || isClip()) return;
    let number = 0;
    while (number + 1 < film.seconds.length && film.seconds[number + 1] - film.start <= at + 1e-6) number++;
    scrub.value = at;
    scrub.setAttribute("aria-valuetext", `frame ${number + 1} of ${film.seconds.length}`);
    if (number === drawn) return;
    drawn = number;
    canvas.getContext("2d").drawImage(film.images[number], 0, 0);
    said.textContent = `frame ${number + 1} of ${film.seconds.length} · ${film.seconds[number].toFixed(2)} s · ${film.size[0]} × ${film.size[1]} px, as the model sees it`;
  }
  function step(now) {
    const film = shown();
    if (!playing) return;
    if (isClip()) {
      scrub.value = video.currentTime;
    } else if (film) {
      at += ((now - before) / 1000) * Number(speed.value);
      if (at >= film.end - film.start) at = 0;
      draw();
    }
    before = now;
    tick = requestAnimationFrame(step);
  }
  function setPlaying(on) {
    playing = on && (isClip() ? clips.has(place) : !!shown());
    cancelAnimationFrame(tick);
    mark();
    if (isClip()) playing ? video.play().catch(() => {}) : video.pause();
    if (!playing) return;
    before = performance.now();
    tick = requestAnimationFrame(step);
  }
  function wait(text) {
    note.textContent = text;
    note.hidden = !text;
  }
  function refresh() {
    canvas.hidden = isClip();
    video.hidden = !isClip();
    drawn = -1;
    wait("");
    if (isClip()) {
      if (clips.has(place)) {
        if (video.src !== clips.get(place)) video.src = clips.get(place);
        said.textContent = "the window's clip, without sound";
      } else {
        video.removeAttribute("src");
        said.textContent = "";
        if (place >= 0) {
          wait("cutting the clip…");
          model.send({ kind: "clip", place });
        }
      }
      return;
    }
    const film = shown();
    if (film) {
      scrub.max = film.end - film.start;
      [canvas.width, canvas.height] = film.size;
      draw();
      root.dataset.place = place;
    } else {
      said.textContent = "";
      if (place >= 0) wait("reading frames…");
    }
  }
  play.addEventListener("click", () => setPlaying(!playing));
  scrub.addEventListener("input", () => {
    if (isClip()) video.currentTime = Number(scrub.value);
    at = Number(scrub.value);
    draw();
  });
  video.addEventListener("loadedmetadata", () => { scrub.max = video.duration; });
  video.addEventListener("ended", () => setPlaying(false));
  speed.addEventListener("change", () => { video.playbackRate = Number(speed.value); });
  mode.addEventListener("change", () => { setPlaying(false); at = 0; scrub.value = 0; refresh(); if (!isClip() && !shown()) model.send({ kind: "frames", place }); });
  wait("");

  return {
    root,
    toggle: () => setPlaying(!playing),
    show(next) {
      if (next === place) return;
      setPlaying(false);
      place = next;
      at = 0;
      delete root.dataset.place;
      refresh();
    },
    wants: () => place >= 0 && !shown() && !isClip(),
    async take(message, buffers) {
      const images = await Promise.all(buffers.map((each) => createImageBitmap(new Blob([each], { type: "image/jpeg" }))));
      remember(frames, message.place, { ...message, images }, KEPT_WINDOWS, (film) => film.images.forEach((image) => image.close()));
      if (message.place === place) refresh();
    },
    takeClip(message, buffers) {
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: "video/mp4" }));
      remember(clips, message.place, url, KEPT_WINDOWS, URL.revokeObjectURL);
      if (message.place !== place) return;
      refresh();
      setPlaying(true);
    },
    fail(message) {
      if (message.place !== place) return;
      wait("");
      note.hidden = false;
      note.textContent = message.why;
    },
    forget() {
      frames.forEach((film) => film.images.forEach((image) => image.close()));
      clips.forEach((url) => URL.revokeObjectURL(url));
      frames.clear();
      clips.clear();
      place = -1;
    },
    close() {
      setPlaying(false);
      this.forget();
    },
  };
}

// Whole text of the chosen window, its rating, and a place to write a better text.
function makeDetail(model, player, focusList) {
  const title = make("div", { class: "ckb-title" });
  const text = make("div", { class: "ckb-text", tabindex: 0, role: "region", "aria-label": "Caption" });
  const error = make("div", { class: "ckb-error", role: "alert" });
  const stars = make("div", { class: "ckb-stars", role: "group", "aria-label": "Rating" });
  const buttons = [1, 2, 3, 4, 5].map((number) => {
    const button = make("button", { type: "button", "aria-label": `Rate ${number}`, title: `Rate ${number} (key ${number})`, text: "★" });
    button.addEventListener("click", () => rate(number));
    stars.append(button);
    return button;
  });
  const editButton = make("button", { type: "button", text: "Edit", title: "Write a better text (e)" });
  const captionButton = make("button", { type: "button", text: "Caption this window", title: "Caption this window before all others (Enter)" });
  const tools = make("div", { class: "ckb-tools" }, stars, editButton, captionButton);
  const area = make("textarea", { "aria-label": "Better caption", rows: 4 });
  const save = make("button", { type: "button", text: "Save" });
  const undo = make("button", { type: "button", text: "Cancel" });
  const revert = make("button", { type: "button", text: "Back to the model's text" });
  const form = make("div", { class: "ckb-form" }, area, make("div", { class: "ckb-tools" }, save, undo, revert));
  const root = make("div", { class: "ckb-detail" }, title, player.root, text, error, tools, form);
  form.hidden = true;
  let place = -1, row = null, raw = "";

  function rate(number) {
    if (!row || !row.text) return;
    model.send({ kind: "rate", place, rating: row.rating === number ? null : number });
  }
  function edit(on) {
    if (on && (!row || !row.text)) return;
    form.hidden = !on;
    text.hidden = on;
    if (on) {
      area.value = raw;
      area.focus();
    } else focusList();
  }
  function fill() {
    title.textContent = row ? `${row.video}, window ${row.window} · ${clock(row.start)} – ${clock(row.end)}` : "Choose a window";
    captionButton.disabled = !row;
    editButton.disabled = !row || !row.text;
    revert.hidden = !row || !row.edited;
    buttons.forEach((button, index) => {
      button.disabled = !row || !row.text;
      button.classList.toggle("on", !!row && row.rating > index);
      button.setAttribute("aria-pressed", String(!!row && row.rating === index + 1));
    });
  }
  editButton.addEventListener("click", () => edit(true));
  captionButton.addEventListener("click", () => model.send({ kind: "caption", place }));
  save.addEventListener("click", () => { model.send({ kind: "edit", place, text: area.value }); edit(false); });
  undo.addEventListener("click", () => edit(false));
  revert.addEventListener("click", () => { model.send({ kind: "edit", place, text: "" }); edit(false); });
  area.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") edit(false);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save.click();
  });
  fill();

  return {
    root,
    rate,
    edit: () => edit(true),
    show(next, nextRow) {
      if (next !== place) {
        if (!form.hidden) { form.hidden = true; text.hidden = false; }
        text.textContent = "";
        error.textContent = "";
        raw = "";
      }
      place = next;
      row = nextRow || (next < 0 ? null : row);
      fill();
    },
    take(message) {
      if (message.place !== place) return;
      row = message.row;
      raw = message.raw;
      text.textContent = message.text || (message.error ? "" : "No caption yet. Press Enter to caption this window.");
      text.classList.toggle("ckb-empty", !message.text);
      text.setAttribute("aria-busy", String(row.state === "running"));
      error.textContent = message.error;
      fill();
    },
  };
}

function render({ model, el }) {
  const view = `v${++views}-${Date.now()}`;
  const root = make("div", { class: "ckb", "data-lm-suppress-shortcuts": "true", role: "group", "aria-label": "Window browser" });
  const search = make("input", { type: "search", placeholder: "Search captions ( / )", "aria-label": "Search captions" });
  const state = choice("State", [["", "any state"], ...STATES.map((each) => [each, each])]);
  const video = choice("Video", [["", "all videos"]]);
  const check = choice("Check", [["", "any check"], ...FAULTS.map((each) => [each, each])]);
  const rating = choice("Rating", [["", "any rating"], ...[1, 2, 3, 4, 5].map((n) => [String(n), `${"★".repeat(n)}${n < 5 ? " or more" : ""}`])]);
  const sort = choice("Sort", SORTS);
  const all = make("button", { type: "button", text: "Tick all", title: "Tick every window of the list" });
  const none = make("button", { type: "button", text: "Untick", title: "Tick none" });
  const filters = make("div", { class: "ckb-filters" }, search, state, video, check, rating, sort);
  const spacer = make("div", { class: "ckb-spacer", role: "presentation" });
  const list = make("div", { class: "ckb-list", role: "listbox", tabindex: 0, "aria-label": "Windows", "aria-multiselectable": "true" }, spacer);
  const count = make("div", { class: "ckb-count" });
  const status = make("div", { class: "ckb-status", role: "status", "aria-live": "polite" });
  const stop = make("button", { type: "button", class: "ckb-stop", text: "Stop" });
  const foot = make("div", { class: "ckb-foot" }, count, all, none, status, stop);
  const problem = make("div", { class: "ckb-problem", role: "alert" });
  const dismiss = make("button", { type: "button", "aria-label": "Dismiss", text: "✕" });
  const problemText = make("span");
  problem.append(problemText, dismiss);
  const player = makePlayer(model);
  const detail = makeDetail(model, player, () => list.focus({ preventScroll: true }));
  const left = make("div", { class: "ckb-left" }, filters, list, foot);
  root.append(problem, make("div", { class: "ckb-main" }, left, detail.root));
  el.append(root);

  let rows = new Map(); // index in the list → row
  const thumbs = new Map(); // place → object URL, "" where there is none
  const asked = new Set();
  const lines = new Map(); // index → element
  let cursor = -1, place = model.get("value"), version = -1, settle = 0, painting = 0, anchor = -1;
  let ticked = new Set();

  function readSelection() {
    ticked = new Set();
    const flat = model.get("selection");
    for (let i = 0; i < flat.length; i += 2) for (let at = flat[i]; at <= flat[i + 1]; at++) ticked.add(at);
  }
  function writeSelection() {
    const flat = [];
    for (const at of [...ticked].sort((a, b) => a - b)) {
      if (flat.length && flat[flat.length - 1] === at - 1) flat[flat.length - 1] = at;
      else flat.push(at, at);
    }
    model.set("selection", flat);
    model.save_changes();
    paintLines();
    paintCount();
  }
  function seen() {
    const first = Math.floor(list.scrollTop / ROW);
    const last = Math.ceil((list.scrollTop + list.clientHeight) / ROW);
    return [Math.max(0, first - AHEAD), Math.min(model.get("_count"), last + AHEAD)];
  }
  let wanted = "";
  function ask() {
    const [first, last] = seen();
    const key = `${version}:${first}:${last}`;
    if (last <= first || key === wanted) return;
    wanted = key;
    model.send({ kind: "range", view, first, last });
  }
  function makeLine() {
    const line = make("div", { class: "ckb-row", role: "option" });
    line.parts = {
      tick: make("span", { class: "ckb-tick", "aria-hidden": "true" }),
      picture: make("img", { class: "ckb-thumb", alt: "" }),
      head: make("span", { class: "ckb-head" }),
      text: make("span", { class: "ckb-caption" }),
      state: make("span", { class: "ckb-state" }),
      marks: make("span", { class: "ckb-marks" }),
    };
    const { tick, picture, head, text, state: chip, marks } = line.parts;
    line.append(tick, picture, make("span", { class: "ckb-body" }, make("span", { class: "ckb-line" }, head, chip, marks), text));
    picture.addEventListener("error", () => { picture.removeAttribute("src"); });
    return line;
  }
  function fillLine(line, index) {
    const row = rows.get(index), { tick, picture, head, text, state: chip, marks } = line.parts;
    line.id = `${view}-${index}`;
    line.style.transform = `translateY(${index * ROW}px)`;
    line.setAttribute("aria-posinset", index + 1);
    line.setAttribute("aria-setsize", model.get("_count"));
    line.setAttribute("aria-selected", String(index === cursor));
    line.classList.toggle("ckb-blank", !row);
    if (!row) {
      line.setAttribute("aria-label", `window ${index + 1}, loading`);
      for (const part of [head, text, chip, marks]) part.textContent = "";
      picture.removeAttribute("src");
      return;
    }
    const is = ticked.has(row.place);
    line.setAttribute("aria-checked", String(is));
    tick.textContent = is ? "☑" : "☐";
    head.textContent = `${row.video} ${row.window} · ${clock(row.start)}–${clock(row.end)}`;
    chip.textContent = `${MARKS[row.state]} ${row.state}${row.state === "running" && row.stage > 1 ? " stage 2" : ""}`;
    chip.dataset.state = row.state;
    const said = row.faults.map((fault) => (fault === "repeats" ? "looping" : fault));
    marks.textContent = [...said, row.edited ? "edited" : "", row.rating ? "★".repeat(row.rating) : ""].filter(Boolean).join(" · ");
    text.textContent = row.error && !row.text ? row.error : row.text + (row.cut ? "…" : "");
    text.classList.toggle("ckb-error", !!row.error && !row.text);
    line.setAttribute("aria-label", `${row.video} window ${row.window}, ${clock(row.start)} to ${clock(row.end)}, ${row.state}${said.length ? ", " + said.join(", ") : ""}${is ? ", ticked" : ""}. ${text.textContent}`);
    const url = thumbs.get(row.place);
    if (url && picture.src !== url) picture.src = url;
    if (!url) picture.removeAttribute("src");
  }
  function paintLines() {
    for (const [index, line] of lines) fillLine(line, index);
    list.setAttribute("aria-activedescendant", cursor >= 0 && lines.has(cursor) ? `${view}-${cursor}` : "");
  }
  function paint() {
    painting = 0;
    const [first, last] = seen();
    spacer.style.height = `${model.get("_count") * ROW}px`;
    const free = [];
    for (const [index, line] of lines) {
      if (index < first || index >= last) {
        lines.delete(index);
        free.push(line);
      }
    }
    for (let index = first; index < last; index++) {
      if (lines.has(index)) continue;
      const line = free.pop() || makeLine();
      lines.set(index, line);
      if (!line.isConnected) spacer.append(line);
    }
    for (const line of free) line.remove();
    paintLines();
    ask();
  }
  const repaint = () => { painting ||= requestAnimationFrame(paint); };
  function paintCount() {
    const shown = model.get("_count"), total = model.get("_total");
    count.textContent = `${shown === total ? total : `${shown} of ${total}`} windows${ticked.size ? `, ${ticked.size} ticked` : ""}`;
  }
  function paintStatus() {
    status.textContent = model.get("_status");
    stop.hidden = !model.get("_busy");
    problemText.textContent = model.get("_problem");
    problem.hidden = !model.get("_problem");
  }
  function reveal(index) {
    const top = index * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }
  function choose(index, fromKernel = false) {
    if (index < 0 || index >= model.get("_count")) return;
    cursor = index;
    reveal(index);
    paintLines();
    const row = rows.get(index);
    if (!row) { repaint(); return; } // its place comes with its row
    place = row.place;
    detail.show(place, row);
    player.show(place);
    if (!fromKernel && model.get("value") !== place) {
      model.set("value", place);
      model.save_changes();
    }
    clearTimeout(settle);
    settle = setTimeout(() => {
      model.send({ kind: "find", place });
      if (player.wants()) model.send({ kind: "frames", place });
    }, fromKernel ? 0 : SETTLE_MS);
  }
  function tick(index, on) {
    const row = rows.get(index);
    if (!row) return;
    (on ?? !ticked.has(row.place)) ? ticked.add(row.place) : ticked.delete(row.place);
    writeSelection();
  }
  function putFilter() {
    const next = { search: search.value.trim(), state: state.value, video: video.value, check: check.value, rating: Number(rating.value) || 0, sort: sort.value };
    for (const [name, value] of Object.entries(next)) if (!value) delete next[name];
    model.set("filter", next);
    model.save_changes();
  }
  function readFilter() {
    const now = model.get("filter");
    if (document.activeElement !== search) search.value = now.search || "";
    for (const [name, control] of Object.entries({ state, video, check, sort })) control.value = now[name] || "";
    rating.value = now.rating ? String(now.rating) : "";
  }
  function readVideos() {
    video.replaceChildren(make("option", { value: "", text: "all videos" }));
    for (const each of model.get("_videos")) video.append(make("option", { value: each, text: each }));
    readFilter();
  }
  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(putFilter, 150); });
  search.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") { search.value = ""; putFilter(); list.focus(); }
    if (event.key === "Enter" || event.key === "ArrowDown") { putFilter(); list.focus(); event.preventDefault(); }
  });
  for (const control of [state, video, check, rating, sort]) control.addEventListener("change", putFilter);
  all.addEventListener("click", () => model.send({ kind: "tick-all" }));
  none.addEventListener("click", () => { ticked.clear(); writeSelection(); });
  stop.addEventListener("click", () => model.send({ kind: "stop" }));
  dismiss.addEventListener("click", () => model.send({ kind: "dismiss" }));
  list.addEventListener("scroll", repaint);
  list.addEventListener("click", (event) => {
    const line = event.target.closest(".ckb-row");
    if (!line) return;
    const index = Number(line.id.slice(view.length + 1));
    if (event.target.classList.contains("ckb-tick") || event.ctrlKey || event.metaKey) tick(index);
    else if (event.shiftKey && anchor >= 0) {
      for (let at = Math.min(anchor, index); at <= Math.max(anchor, index); at++) if (rows.has(at)) ticked.add(rows.get(at).place);
      writeSelection();
    } else choose(index);
    anchor = index;
  });
  root.addEventListener("keydown", (event) => {
    const inside = ["INPUT", "SELECT", "TEXTAREA", "BUTTON"].includes(event.target.tagName);
    // What is typed here is not for JupyterLab.
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
    if (inside || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1), last = model.get("_count") - 1;
    const moves = { ArrowDown: cursor + 1, j: cursor + 1, ArrowUp: cursor - 1, k: cursor - 1, PageDown: cursor + page, PageUp: cursor - page, Home: 0, End: last };
    if (event.key in moves) {
      const next = Math.max(0, Math.min(last, moves[event.key]));
      choose(next);
      if (event.shiftKey) tick(next, true);
    } else if (event.key === " ") player.toggle();
    else if (event.key === "Enter") { if (place >= 0) model.send({ kind: "caption", place }); }
    else if (/^[1-5]$/.test(event.key)) detail.rate(Number(event.key));
    else if (event.key === "e") detail.edit();
    else if (event.key === "x") tick(cursor);
    else if (event.key === "/") search.focus();
    else return;
    event.preventDefault();
  });

  const handlers = {
    rows(message) {
      if (message.version !== model.get("_version")) return;
      for (const row of message.rows) rows.set(row.index, row);
      const missing = message.rows.map((row) => row.place).filter((each) => !thumbs.has(each) && !asked.has(each));
      if (missing.length) {
        missing.forEach((each) => asked.add(each));
        model.send({ kind: "thumbs", view, places: [...asked] });
      }
      repaint();
      if (cursor >= 0 && rows.has(cursor) && rows.get(cursor).place !== place) choose(cursor);
    },
    thumb(message, buffers) {
      asked.delete(message.place);
      const url = buffers[0].byteLength ? URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" })) : "";
      remember(thumbs, message.place, url, KEPT_THUMBS, (old) => old && URL.revokeObjectURL(old));
      repaint();
    },
    at(message) {
      if (message.place !== place) return;
      cursor = message.index;
      if (cursor >= 0) {
        reveal(cursor);
        repaint();
      } else paintLines();
    },
    detail: (message) => detail.take(message),
    frames: (message, buffers) => player.take(message, buffers),
    clip: (message, buffers) => player.takeClip(message, buffers),
    "no-frames": (message) => player.fail(message),
    "no-clip": (message) => player.fail(message),
  };
  const onMessage = (message, buffers) => handlers[message.kind]?.(message, buffers);
  function onVersion() {
    version = model.get("_version");
    rows = new Map();
    wanted = "";
    anchor = -1;
    repaint();
    paintCount();
    if (place >= 0) model.send({ kind: "find", place });
  }
  function onValue() {
    const next = model.get("value");
    if (next === place) return;
    place = next;
    cursor = -1;
    detail.show(place, null);
    player.show(place);
    if (place < 0) { paintLines(); return; }
    model.send({ kind: "find", place });
    if (player.wants()) model.send({ kind: "frames", place });
  }
  function onTotal() {
    // Other windows: nothing that is kept is about them.
    player.forget();
    thumbs.forEach((url) => url && URL.revokeObjectURL(url));
    thumbs.clear();
    asked.clear();
    onVersion();
  }
  const onSelection = () => { readSelection(); paintLines(); paintCount(); };
  const changes = { "change:_version": onVersion, "change:_cut": onTotal, "change:value": onValue, "change:selection": onSelection, "change:filter": readFilter, "change:_videos": readVideos, "change:_status": paintStatus, "change:_busy": paintStatus, "change:_problem": paintStatus, "msg:custom": onMessage };
  for (const [name, handler] of Object.entries(changes)) model.on(name, handler);
  const sized = new ResizeObserver(repaint);
  sized.observe(list);
  readVideos();
  readSelection();
  paintStatus();
  const first = place;
  place = -1;
  onVersion();
  if (first >= 0) onValue();
  return () => {
    for (const [name, handler] of Object.entries(changes)) model.off(name, handler);
    sized.disconnect();
    clearTimeout(settle);
    clearTimeout(typing);
    cancelAnimationFrame(painting);
    player.close();
    thumbs.forEach((url) => url && URL.revokeObjectURL(url));
    try { model.send({ kind: "gone", view }); } catch { /* the kernel is gone too */ }
    root.remove();
  };
}

export default { render };
