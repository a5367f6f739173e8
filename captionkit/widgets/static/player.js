// Player: the frames that the model sees of a window, or the window's clip.

import { make, makeButton, makeSelect, makeUrl, remember } from "./dom.js";

const KEPT_WINDOWS = 24; // windows whose frames stay in the page
const STILL = matchMedia("(prefers-reduced-motion: reduce)"); // clips wait for a press of play
const FILMS = [
  { value: "frames", label: "model's frames" },
  { value: "clip", label: "clip" },
];
const SPEEDS = [
  { value: "0.25", label: "¼×" },
  { value: "0.5", label: "½×" },
  { value: "1", label: "1×" },
  { value: "2", label: "2×" },
  { value: "4", label: "4×" },
];

export class Player {
  constructor(model) {
    this.model = model;
    this.frames = new Map(); // index of a window → {images, seconds, start, end, size}
    this.clips = new Map(); // index of a window → object URL
    this.index = -1; // of the window that is shown
    this.playing = false;
    this.at = 0; // seconds since the window's start
    this.drawn = -1; // number of the frame on the canvas
    this.tick = 0; // animation frame that is asked for
    this.before = 0; // time of the last one
    this.build();
    this.listen();
    this.write("");
  }

  build() {
    this.canvas = make("canvas", { role: "img", "aria-label": "Frames the model sees" });
    this.video = make("video", { playsinline: "", muted: "", "aria-label": "The window's clip" });
    this.video.muted = true;
    this.note = make("div", { class: "ckb-note" });
    this.play = makeButton("▶", () => this.toggle(), {
      class: "ckb-play",
      "aria-label": "Play",
      title: "Play (space)",
    });
    this.scrub = make("input", {
      type: "range",
      min: 0,
      max: 0,
      step: "any",
      value: 0,
      "aria-label": "Position",
    });
    this.speed = makeSelect("Speed", SPEEDS);
    this.speed.value = "1";
    this.film = makeSelect("What to play", FILMS);
    this.said = make("div", { class: "ckb-said" });
    const screen = make("div", { class: "ckb-screen" }, this.canvas, this.video, this.note);
    const bar = make("div", { class: "ckb-bar" }, this.play, this.scrub, this.speed, this.film);
    this.root = make("div", { class: "ckb-player" }, screen, bar, this.said);
  }

  listen() {
    this.scrub.addEventListener("input", () => {
      this.at = Number(this.scrub.value);
      if (this.playsClip()) this.video.currentTime = this.at;
      this.draw();
    });
    this.speed.addEventListener("change", () => {
      this.video.playbackRate = Number(this.speed.value);
    });
    this.film.addEventListener("change", () => {
      this.setPlaying(false);
      this.at = 0;
      this.scrub.value = 0;
      this.refresh();
      if (this.lacksFrames()) this.model.send({ kind: "frames", index: this.index });
    });
    this.video.addEventListener("loadedmetadata", () => {
      this.scrub.max = this.video.duration;
    });
    this.video.addEventListener("ended", () => this.setPlaying(false));
  }

  playsClip() {
    return this.film.value === "clip";
  }

  /** Whether the window that is shown waits for frames from the kernel. */
  lacksFrames() {
    return this.index >= 0 && !this.playsClip() && !this.frames.has(this.index);
  }

  /** Show a window, by its index; -1 for none. */
  show(index) {
    if (index === this.index) return;
    this.setPlaying(false);
    this.index = index;
    this.at = 0;
    delete this.root.dataset.index;
    this.refresh();
  }

  refresh() {
    this.canvas.hidden = this.playsClip();
    this.video.hidden = !this.playsClip();
    this.drawn = -1;
    this.write("");
    this.said.textContent = "";
    if (this.playsClip()) this.refreshClip();
    else this.refreshFrames();
  }

  refreshClip() {
    const url = this.clips.get(this.index);
    if (url) {
      if (this.video.src !== url) this.video.src = url;
      this.said.textContent = "the window's clip, without sound";
      return;
    }
    this.video.removeAttribute("src");
    if (this.index < 0) return;
    this.write("cutting the clip…");
    this.model.send({ kind: "clip", index: this.index });
  }

  refreshFrames() {
    const shown = this.frames.get(this.index);
    if (!shown) {
      if (this.index >= 0) this.write("reading frames…");
      return;
    }
    this.scrub.max = shown.end - shown.start;
    [this.canvas.width, this.canvas.height] = shown.size;
    this.draw();
    this.root.dataset.index = this.index;
  }

  draw() {
    const shown = this.frames.get(this.index);
    if (!shown || this.playsClip()) return;
    const { images, seconds, start, size } = shown;
    let number = 0;
    while (number + 1 < seconds.length && seconds[number + 1] - start <= this.at + 1e-6) number++;
    const which = `frame ${number + 1} of ${seconds.length}`;
    this.scrub.value = this.at;
    this.scrub.setAttribute("aria-valuetext", which);
    if (number === this.drawn) return;
    this.drawn = number;
    this.canvas.getContext("2d").drawImage(images[number], 0, 0);
    const time = `${seconds[number].toFixed(2)} s`;
    this.said.textContent = `${which} · ${time} · ${size[0]} × ${size[1]} px, as the model sees it`;
  }

  toggle() {
    this.setPlaying(!this.playing);
  }

  setPlaying(on) {
    this.playing = on && (this.playsClip() ? this.clips : this.frames).has(this.index);
    cancelAnimationFrame(this.tick);
    this.play.textContent = this.playing ? "⏸" : "▶";
    this.play.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    if (this.playsClip()) {
      if (this.playing) this.video.play().catch(() => {});
      else this.video.pause();
    }
    if (!this.playing) return;
    this.before = performance.now();
    this.tick = requestAnimationFrame((now) => this.step(now));
  }

  step(now) {
    const shown = this.frames.get(this.index);
    if (!this.playing) return;
    if (this.playsClip()) {
      this.scrub.value = this.video.currentTime;
    } else if (shown) {
      this.at += ((now - this.before) / 1000) * Number(this.speed.value);
      if (this.at >= shown.end - shown.start) this.at = 0;
      this.draw();
    }
    this.before = now;
    this.tick = requestAnimationFrame((next) => this.step(next));
  }

  /** Write over the picture; an empty text takes it away. */
  write(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  async takeFrames(message, buffers) {
    const images = await Promise.all(
      buffers.map((each) => createImageBitmap(new Blob([each], { type: "image/jpeg" }))),
    );
    remember(this.frames, message.index, { ...message, images }, KEPT_WINDOWS, closeImages);
    if (message.index === this.index) this.refresh();
  }

  takeClip(message, buffers) {
    const url = makeUrl(buffers[0], "video/mp4");
    remember(this.clips, message.index, url, KEPT_WINDOWS, URL.revokeObjectURL);
    if (message.index !== this.index) return;
    this.refresh();
    if (!STILL.matches) this.setPlaying(true);
  }

  takeFailure(message) {
    if (message.index === this.index) this.write(message.why);
  }

  /** Drop all frames and clips; they are of other windows. */
  forget() {
    this.frames.forEach(closeImages);
    this.clips.forEach((url) => {
      URL.revokeObjectURL(url);
    });
    this.frames.clear();
    this.clips.clear();
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.said.textContent = "";
    this.index = -1;
  }

  close() {
    this.setPlaying(false);
    this.forget();
  }
}

function closeImages({ images }) {
  for (const image of images) image.close();
}
