// A link that asks the kernel for a file's bytes and hands them to the browser.

import { initialize } from "./awake.js";
import { make, makeButton, makeUrl } from "./dom.js";

const STYLE =
  "border:0;background:none;padding:0 4px;font:inherit;cursor:pointer;" +
  "text-decoration:underline;color:var(--jp-content-link-color, LinkText)";
const KEPT_MS = 10_000; // a download has begun by then

function saveAs(name, bytes) {
  const href = makeUrl(bytes);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEPT_MS);
}

function render({ model, el }) {
  const ask = () => model.send({ kind: "save" });
  const link = makeButton("", ask, { role: "link", style: STYLE });
  const note = make("span");
  const paint = () => {
    link.hidden = !model.get("_name");
    link.textContent = `Download ${model.get("_name")}`;
    note.textContent = model.get("_note");
  };
  const onMessage = (message, buffers) => {
    if (message.kind === "file") saveAs(model.get("_name"), buffers[0]);
  };
  model.on("change", paint);
  model.on("msg:custom", onMessage);
  paint();
  el.append(link, note);
  return () => {
    model.off("change", paint);
    model.off("msg:custom", onMessage);
  };
}

export default { initialize, render };
