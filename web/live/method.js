// How the two models are joined, and what that means here.

import { freshId } from "../chart/ids.js";
import { letSettle, make, makeChoice, showNumber } from "./dom.js";

/** @type {Record<string, string>} */
const SAYING = {
  interpolation: "fast + λ · (slow − fast).",
  task_arithmetic:
    "fast + λ · (task vector of slow), which is slow − fast. " +
    "With one fine-tuned model this is plain interpolation: nothing changes.",
  ties:
    "fast + λ · (the largest entries of slow − fast; density is the share that is kept). " +
    "TIES settles conflicts of sign between several models; with one there are none.",
};

/**
 * @param {{ onMethod: (method: string) => void, onDensity: (density: number) => void, onSettled: () => void }} hooks
 */
export function createMethod(hooks) {
  const choice = makeChoice(
    "Method",
    [
      ["interpolation", "interpolation"],
      ["task_arithmetic", "task arithmetic"],
      ["ties", "TIES"],
    ],
    hooks.onMethod,
  );
  const input = make("input", {
    type: "range",
    min: 0.05,
    max: 1,
    step: 0.05,
    id: freshId("density"),
    oninput: () => hooks.onDensity(Number(input.value)),
  });
  letSettle(input, hooks.onSettled);
  const text = make("output", { for: input.id, class: "value" });
  const density = make(
    "div",
    { class: "density" },
    make("label", { for: input.id }, "density, share kept"),
    input,
    text,
  );
  const saying = make("p", { class: "hint" });
  return {
    node: make("section", { class: "method" }, make("div", { class: "row wrap" }, choice.node, density), saying),
    /** @param {import("./state.js").State} state */
    show(state) {
      choice.choose(state.method);
      density.hidden = state.method !== "ties";
      input.value = String(state.density);
      text.textContent = showNumber(state.density);
      saying.textContent = SAYING[state.method];
    },
  };
}
