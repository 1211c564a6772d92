// The state of the component, what follows a change of it, and the trail of what was tried.

import { createTrail } from "./presets.js";
import { mergeKey } from "./state.js";

const REST = 700;

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./trailview.js").Tried} Tried
 * @param {State} initial
 * @param {string[]} layers
 * @param {{ onState: (state: State, merged: boolean) => void, onTrail: (tried: Tried[]) => void,
 *   onSettled: (state: State) => void }} hooks
 */
export function createModel(initial, layers, hooks) {
  const keyOf = (/** @type {State} */ of) => `${mergeKey(of, layers)} ${of.question}`;
  const allOf = (/** @type {State} */ of) => `${of.method} ${of.mode} ${keyOf(of)}`;
  const trail = createTrail((/** @type {Tried} */ tried) => keyOf(tried.state));
  let state = initial;
  let told = allOf(initial);
  let rest = 0;
  trail.push({ state });

  /** The reader has come to rest: trail and link follow. */
  function settle() {
    clearTimeout(rest);
    if (allOf(state) === told) return;
    told = allOf(state);
    trail.push({ state });
    hooks.onTrail(trail.items());
    hooks.onSettled(state);
  }

  /** @param {State} next */
  function change(next) {
    const merged = mergeKey(next, layers) !== mergeKey(state, layers);
    state = next;
    hooks.onState(state, merged);
    clearTimeout(rest);
    rest = window.setTimeout(settle, REST);
  }

  return {
    get: () => state,
    tried: trail.items,
    change,
    settle,
    undo() {
      settle();
      const before = trail.undo();
      if (!before) return;
      told = allOf(before.state);
      change(before.state);
      hooks.onTrail(trail.items());
      hooks.onSettled(state);
    },
    /** What the merge at hand answered. @param {{ length: number, right: boolean | null }} outcome */
    answered(outcome) {
      const last = trail.items().at(-1);
      if (!last || keyOf(last.state) !== keyOf(state)) return;
      trail.push({ state, ...outcome });
      hooks.onTrail(trail.items());
    },
    destroy: () => clearTimeout(rest),
  };
}
