// Wakes a model that anywidget has put to sleep: one whose module needed more than two seconds to load,
// as on a busy machine, is drawn, but takes no message of the kernel any more.
// Upstream: https://github.com/manzt/anywidget/blob/main/packages/anywidget/src/runtime.ts
// Goes when: messages wait for the module however long it takes.

export function initialize({ model }) {
  // The model itself comes with its changes alone.
  model.on("change:_probed", async (own) => {
    if (!own.has("_probed")) return;
    own.unset("_probed"); // a saved notebook keeps all attributes
    try {
      await own._handle_comm_msg({ content: { data: {} } });
    } catch {
      const inherited = Object.getPrototypeOf(own.constructor.prototype);
      own.comm?.on_msg((message) => inherited._handle_comm_msg.call(own, message));
      // What came before is lost.
      own.comm?.send({ method: "request_state" }, {});
    }
  });
  model.set("_probed", true);
}
