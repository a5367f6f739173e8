// Hides the static twin of a view as long as a kernel answers: the twin is for pages without one.
export default {
  render({ model, el }) {
    const style = document.createElement("style");
    const hide = () => {
      style.textContent = `.${model.get("_twin")} { display: none; }`;
    };
    el.hidden = true;
    el.append(style);
    model.on("msg:custom", hide);
    model.send({ kind: "here" });
    return () => model.off("msg:custom", hide);
  },
};
