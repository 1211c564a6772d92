// What was tried: one button a merge, to go back to it.

import { make, makeButton, showNumber } from "./dom.js";
import { isPreset, presetsOf } from "./presets.js";
import { problemName } from "./problems.js";
import { meanOf, sharedBy } from "./state.js";

/**
 * @typedef {{ state: import("./state.js").State, length?: number, right?: boolean | null }} Tried
 * @param {any} data live.json
 * @param {(tried: Tried) => void} onBack
 */
export function createTrailView(data, onBack) {
  const list = make("ol", {});
  const node = make("section", { class: "trail" }, make("h2", {}, "Tried"), list);
  return {
    node,
    /** The newest comes first. @param {Tried[]} items oldest first */
    show(items) {
      const focused = list.contains(document.activeElement);
      list.replaceChildren(
        ...items
          .map((tried, k) => {
            const now = k === items.length - 1;
            const button = makeButton(titleOf(tried.state, data), () => onBack(tried), {
              class: "chip",
              title: tried.state.question,
              "aria-current": now ? "true" : null,
            });
            const problem = make("span", { class: "problem" }, problemName(tried.state.question));
            button.append(make("small", {}, outcomeOf(tried)), problem);
            return make("li", {}, button);
          })
          .reverse(),
      );
      if (focused) list.querySelector("button")?.focus();
    },
  };
}

/** A merge in few words. @param {import("./state.js").State} state @param {any} data */
export function titleOf(state, data) {
  const { layers } = data;
  const shared = sharedBy(state, layers);
  if (shared === null) {
    const preset = presetsOf(data).find((known) => isPreset(state, known, layers));
    if (preset) return preset.title;
  }
  const lambda = shared === null ? `own λ, mean ${showNumber(meanOf(state, layers))}` : `λ ${showNumber(shared)}`;
  return state.method === "ties" ? `TIES ${state.density}, ${lambda}` : lambda;
}

/** @param {Tried} tried */
function outcomeOf(tried) {
  if (tried.length === undefined) return "";
  const mark = tried.right === true ? "✓ " : tried.right === false ? "✗ " : "";
  return ` ${mark}${tried.length} tokens`;
}
