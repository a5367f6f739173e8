// Hides the static twin of a view as long as a kernel answers: the twin is for pages without one.

import { initialize } from "./awake.js";

const FIRST_MS = 2000; // wait for an answer; a server drops messages above its limit of data

export default {
  initialize,
  render({ model, el }) {
    const style = document.createElement("style");
    let timer = 0;
    const ask = (wait) => {
      model.send({ kind: "here" });
      timer = setTimeout(() => ask(2 * wait), wait);
    };
    const hide = () => {
      clearTimeout(timer);
      style.textContent = `.${model.get("_twin")} { display: none; }`;
    };
    el.hidden = true;
    el.append(style);
    model.on("msg:custom", hide);
    ask(FIRST_MS);
    return () => {
      clearTimeout(timer);
      model.off("msg:custom", hide);
    };
  },
};
