// The live component in a notebook (anywidget). Python hands over the models' files; the state goes both ways.

import { startEngine } from "../core/client.js";
import { mount } from "../live/playground.js";
import { tellWhenGone } from "./kernel.js";

const LONGEST_WAIT = 180_000; // milliseconds; the kernel answers once it has run what is before it

/** @param {DataView} view @returns {ArrayBuffer} */
function bufferOf(view) {
  return /** @type {ArrayBuffer} */ (view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/**
 * The models' files, which Python sends when asked.
 * @param {any} model
 * @returns {Promise<import("../core/session.js").Files>}
 */
function askForModels(model) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("Python does not answer. Run the cell again.")), LONGEST_WAIT);
    const take = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
      clearTimeout(late);
      model.off("msg:custom", take);
      resolve({ ...content, fast: bufferOf(buffers[0]), slow: bufferOf(buffers[1]) });
    };
    model.on("msg:custom", take);
    model.send({ wanted: "models" });
  });
}

/** @param {any} context of anywidget */
function render({ model, el }) {
  const live = mount(el, {
    async start(/** @type {(loaded: number, total: number) => void} */ onProgress) {
      const files = await askForModels(model);
      onProgress(files.fast.byteLength + files.slow.byteLength, files.fast.byteLength + files.slow.byteLength);
      const engine = startEngine(model.get("worker"));
      await engine.load(files);
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
  const end = tellWhenGone(model, el);
  return () => {
    end();
    model.off("change:state", follow);
    live.destroy();
  };
}

export default { render };
