// A link that asks the kernel for a file's bytes and hands them to the browser.
function render({ model, el }) {
  const link = document.createElement("button");
  link.type = "button";
  link.setAttribute("role", "link");
  link.style.cssText = "border:0;background:none;padding:0 4px;font:inherit;cursor:pointer;text-decoration:underline;color:var(--jp-content-link-color, LinkText)";
  const said = document.createElement("span");
  el.append(link, said);
  const paint = () => {
    link.hidden = !model.get("_name");
    link.textContent = `Download ${model.get("_name")}`;
    said.textContent = model.get("_said");
  };
  link.addEventListener("click", () => model.send({ kind: "save" }));
  const save = (message, buffers) => {
    if (message.kind !== "file") return;
    const url = URL.createObjectURL(new Blob([buffers[0]]));
    const anchor = document.createElement("a");
    anchor.href = url;
    anchor.download = model.get("_name");
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  model.on("change", paint);
  model.on("msg:custom", save);
  paint();
  return () => {
    model.off("change", paint);
    model.off("msg:custom", save);
  };
}

export default { render };
