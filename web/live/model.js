// The state of the component, what follows a change of it, and the trail of what was tried.

import { createTrail } from "./presets.js";
import { mergeKey } from "./state.js";

const REST = 700;

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./trailview.js").Tried} Tried
 * @typedef {{ length: number, right: boolean | null }} Outcome what the merge at hand answered
 * settle: the reader has come to rest; trail and link follow.
 * @param {State} initial
 * @param {string[]} layers
 * @param {{ onState: (state: State, merged: boolean) => void, onTrail: (tried: Tried[]) => void,
 *   onSettled: (state: State) => void }} hooks
 */
export function createModel(initial, layers, hooks) {
  const keyOf = (/** @type {State} */ of) => `${mergeKey(of, layers)} ${of.question}`;
  const allOf = (/** @type {State} */ of) => `${of.method} ${of.mode} ${keyOf(of)}`;
  const trail = createTrail((/** @type {Tried} */ tried) => keyOf(tried.state));
  const now = { state: initial, told: allOf(initial), rest: 0 };
  trail.push({ state: initial });
  const tell = () => {
    now.told = allOf(now.state);
    hooks.onTrail(trail.items());
    hooks.onSettled(now.state);
  };
  const settle = () => {
    clearTimeout(now.rest);
    if (allOf(now.state) === now.told) return;
    trail.push({ state: now.state });
    tell();
  };
  const change = (/** @type {State} */ next) => {
    const merged = mergeKey(next, layers) !== mergeKey(now.state, layers);
    now.state = next;
    hooks.onState(next, merged);
    clearTimeout(now.rest);
    now.rest = window.setTimeout(settle, REST);
  };
  const undo = () => {
    settle();
    const before = trail.undo();
    if (!before) return;
    change(before.state);
    tell();
  };
  const answered = (/** @type {Outcome} */ outcome) => {
    const last = trail.items().at(-1);
    if (!last || keyOf(last.state) !== keyOf(now.state)) return;
    trail.push({ state: now.state, ...outcome });
    hooks.onTrail(trail.items());
  };
  const own = { change, settle, undo, answered, destroy: () => clearTimeout(now.rest) };
  return { get: () => now.state, tried: trail.items, ...own };
}
