// Merges that the reader can start from, and the trail of those that were tried.

import { coefficientOf, keysOf, tidy, withOne } from "./state.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {{ name: string, title: string, hint: string, of: (state: State) => State }} Preset
 */

/**
 * @param {any} data live.json
 * @returns {Preset[]}
 */
export function presetsOf(data) {
  const layers = data.layers;
  const straight = (/** @type {State} */ state) => ({
    ...state,
    method: state.method === "ties" ? "interpolation" : state.method,
  });
  /** @type {(name: string, title: string, hint: string, value: number) => Preset} */
  const one = (name, title, hint, value) => ({
    name,
    title,
    hint,
    of: (state) => withOne(straight(state), value, layers),
  });
  /** @type {(name: string, title: string, hint: string, coefficients: Record<string, number>) => Preset} */
  const many = (name, title, hint, coefficients) => ({
    name,
    title,
    hint,
    of: (state) => {
      const told = layers.map((/** @type {string} */ layer) => [layer, tidy(coefficients[layer])]);
      return { ...straight(state), mode: "layer", coefficients: Object.fromEntries(told) };
    },
  });
  const stored = Object.entries(/** @type {Record<string, any>} */ (data.presets)).map(([name, preset]) =>
    many(name, TITLES[name] ?? preset.title, whatOf(name, preset), preset.coefficients),
  );
  const rising = Object.fromEntries(
    layers.map((/** @type {string} */ layer, /** @type {number} */ k) => [layer, k / (layers.length - 1)]),
  );
  return [
    one("fast", "fast", "The fast model itself", 0),
    one("average", "average", "The plain average of both", 0.5),
    ...stored,
    many("ramp", "ramp", "λ rises from 0 in the first layer to 1 in the last", rising),
  ];
}

/**
 * What the component opens with: ACM's merge; the plain average where there is none.
 * @param {any} data @param {string} question @returns {State}
 */
export function firstState(data, question) {
  const plain = { method: "interpolation", density: 0.2, mode: "one", coefficients: {}, question };
  const presets = presetsOf(data);
  const found = presets.find(({ name }) => name === "acm") ?? presets.find(({ name }) => name === "average");
  return /** @type {Preset} */ (found).of(plain);
}

/** @type {Record<string, string>} */
export const TITLES = { acm: "ACM", noise: "noise", search: "a search's best" };
/** @type {Record<string, string>} */
const WHAT = {
  acm:
    "ACM, a published method: it gives each layer its own λ, " +
    "set by how well fast’s inner numbers there predict slow’s (mutual information).",
  noise: "ACM’s formula, fed with random noise in place of a model. Does the real ACM do better?",
  search: "λ found by trial and error",
};

/**
 * What a preset is. A search's accuracy stands there twice: on the problems that chose it, and on others.
 * @param {string} name
 * @param {any} preset
 */
function whatOf(name, preset) {
  const { accuracy, n, fresh } = preset.provenance ?? {};
  const share = (/** @type {number} */ value) => `${value.toFixed(1)} % right`;
  const told = fresh?.n
    ? `: ${share(accuracy)} on the ${n} problems used for the search, ` +
      `${share(fresh.accuracy)} on ${fresh.n.toLocaleString("en")} new ones.`
    : "";
  return `${WHAT[name] ?? preset.title}${told}`;
}

/** Whether a state is the merge of a preset. @param {State} state @param {Preset} preset @param {string[]} layers */
export function isPreset(state, preset, layers) {
  const wanted = preset.of(state);
  const alike = keysOf("part", layers).every(
    (key) => Math.abs(coefficientOf(state, key) - coefficientOf(wanted, key)) < 5e-4,
  );
  return alike && (state.method === "ties") === (wanted.method === "ties");
}

/**
 * The merges that were tried, oldest first; the last is the one at hand.
 * @template T
 * @param {(item: T) => string} keyOf
 */
export function createTrail(keyOf, limit = 12) {
  /** @type {T[]} */
  let items = [];
  return {
    items: () => items,
    /** Puts an item last; the same item does not stand twice in a row. @param {T} item */
    push(item) {
      const last = items.at(-1);
      if (last && keyOf(last) === keyOf(item)) items = [...items.slice(0, -1), { ...last, ...item }];
      else items = [...items, item].slice(-limit);
    },
    /** Takes the last item off and gives the one before; null where there is none. @returns {T | null} */
    undo() {
      if (items.length < 2) return null;
      items = items.slice(0, -1);
      return items[items.length - 1];
    },
  };
}
