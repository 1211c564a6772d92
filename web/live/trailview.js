// What was tried: one button a merge, to go back to it.

import { make, makeButton, showNumber } from "./dom.js";
import { meanOf, sharedBy } from "./state.js";

/**
 * @typedef {{ state: import("./state.js").State, length?: number, right?: boolean | null }} Tried
 * @param {string[]} layers
 * @param {(tried: Tried) => void} onBack
 */
export function createTrailView(layers, onBack) {
  const list = make("ol", {});
  const node = make("section", { class: "trail", hidden: true }, make("h2", {}, "What you tried"), list);
  return {
    node,
    /** @param {Tried[]} items oldest first */
    show(items) {
      node.hidden = items.length < 2;
      list.replaceChildren(...items.map((tried, k) => {
        const now = k === items.length - 1;
        const button = makeButton(titleOf(tried.state, layers), () => onBack(tried),
          { class: "chip", title: tried.state.question, "aria-current": now ? "true" : null });
        button.append(make("small", {}, outcomeOf(tried)));
        return make("li", {}, button);
      }));
    },
  };
}

/** A merge in few words. @param {import("./state.js").State} state @param {string[]} layers */
export function titleOf(state, layers) {
  const shared = sharedBy(state, layers);
  const lambda = shared === null ? `mean λ ${showNumber(meanOf(state, layers))}` : `λ ${showNumber(shared)}`;
  return state.method === "ties" ? `TIES ${lambda}` : lambda;
}

/** @param {Tried} tried */
function outcomeOf(tried) {
  if (tried.length === undefined) return "";
  const mark = tried.right === true ? "✓ " : tried.right === false ? "✗ " : "";
  return ` ${mark}${tried.length} tokens`;
}
