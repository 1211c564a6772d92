// The live component in a notebook (anywidget). Python hands over the models' files; the state goes both ways.

import { startEngine } from "../core/client.js";
import { mount } from "../live/playground.js";

/** @param {DataView} view @returns {ArrayBuffer} */
function bufferOf(view) {
  return /** @type {ArrayBuffer} */ (view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** @param {any} context of anywidget */
function render({ model, el }) {
  const live = mount(el, {
    async start(/** @type {(loaded: number, total: number) => void} */ onProgress) {
      const { fast, slow, config, tokenizer } = model.get("files");
      onProgress(fast.byteLength + slow.byteLength, fast.byteLength + slow.byteLength);
      const engine = startEngine(model.get("worker"));
      await engine.load({ fast: bufferOf(fast), slow: bufferOf(slow), config, tokenizer });
      return engine;
    },
    data: model.get("numbers"),
    state: model.get("state"),
    onChange(state) {
      if (JSON.stringify(state) === JSON.stringify(model.get("state"))) return;
      model.set("state", state);
      model.save_changes();
    },
  });
  const follow = () => {
    if (JSON.stringify(model.get("state")) !== JSON.stringify(live.get())) live.set(model.get("state"));
  };
  model.on("change:state", follow);
  return () => {
    model.off("change:state", follow);
    live.destroy();
  };
}

export default { render };
