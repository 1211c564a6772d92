// What the reader has set: method, density, λ and the question; and how it fits into a link.

import { METHODS } from "../core/merge.js";
import { clamp } from "./dom.js";
import { bare } from "./problems.js";

export const LOWEST = -0.5;
export const HIGHEST = 1.5;
const MODES = ["one", "layer", "part"];
export const LONGEST = 400; // characters of a question

/**
 * @typedef {{ method: string, density: number, mode: string, coefficients: Record<string, number>, question: string }}
 * State
 */

/** Whether a layer is a block, which has two parts. @param {string} layer */
export function isBlock(layer) {
  return /^\d+$/.test(layer);
}

/** The keys that hold λ in a mode, in the order of the layers. @param {string} mode @param {string[]} layers */
export function keysOf(mode, layers) {
  if (mode !== "part") return layers;
  return layers.flatMap((layer) => (isBlock(layer) ? [`${layer}.attention`, `${layer}.mlp`] : [layer]));
}

/** λ of a key: its own, that of its layer, or the mean of its parts. @param {State} state @param {string} key */
export function coefficientOf(state, key) {
  const own = state.coefficients[key] ?? state.coefficients[key.split(".")[0]];
  if (own !== undefined) return own;
  return (state.coefficients[`${key}.attention`] + state.coefficients[`${key}.mlp`]) / 2;
}

/** The same λ in every layer. @param {State} state @param {number} value @param {string[]} layers @returns {State} */
export function withOne(state, value, layers) {
  return { ...state, mode: "one", coefficients: Object.fromEntries(layers.map((layer) => [layer, value])) };
}

/** The state in another mode; λ stay as far as it can hold them.
 * @param {State} state @param {string} mode @param {string[]} layers @returns {State} */
export function inMode(state, mode, layers) {
  if (mode === "one") return withOne(state, Math.round(meanOf(state, layers) * 100) / 100, layers);
  const coefficients = Object.fromEntries(keysOf(mode, layers).map((key) => [key, coefficientOf(state, key)]));
  return { ...state, mode, coefficients };
}

/** With another λ at some keys; one λ for all becomes λ by layer.
 * @param {State} state @param {Record<string, number>} changes @param {string[]} layers @returns {State} */
export function withSome(state, changes, layers) {
  const open = state.mode === "one" ? inMode(state, "layer", layers) : state;
  return { ...open, coefficients: { ...open.coefficients, ...changes } };
}

/** The mean λ of the layers, each counted once. @param {State} state @param {string[]} layers */
export function meanOf(state, layers) {
  return layers.reduce((sum, layer) => sum + coefficientOf(state, layer), 0) / layers.length;
}

/** The λ that all layers share; null where they differ. @param {State} state @param {string[]} layers */
export function sharedBy(state, layers) {
  const values = keysOf(state.mode, layers).map((key) => coefficientOf(state, key));
  return values.every((value) => Math.abs(value - values[0]) < 1e-6) ? values[0] : null;
}

/** The same merge, as text: equal for states that merge alike. @param {State} state @param {string[]} layers */
export function mergeKey(state, layers) {
  const values = keysOf("part", layers).map((key) => tidy(coefficientOf(state, key)));
  return `${state.method === "ties" ? `ties ${state.density}` : "straight"} ${values.join(" ")}`;
}

/** Without the noise of sums: twelve digits after the point, more than a merge in float32 tells apart.
 * @param {number} value */
export function tidy(value) {
  return Math.round(value * 1e12) / 1e12;
}

/**
 * What was handed over or read from a link, completed and held to what may be.
 * @param {Partial<State> | null | undefined} given @param {string[]} layers @param {State} otherwise whose merge and
 * whose problem stand in for those that are not given
 * @returns {State}
 */
export function normalised(given, layers, otherwise) {
  const start = given?.coefficients ? given : { ...otherwise, question: given?.question };
  const mode = MODES.includes(String(start.mode)) ? String(start.mode) : "one";
  const told = /** @type {Record<string, number>} */ (start.coefficients);
  const coefficients = keysOf(mode, layers).map((key) => {
    const value = told[key] ?? told[key.split(".")[0]];
    return [key, within(value, LOWEST, HIGHEST, 0.5)];
  });
  return {
    method: METHODS.includes(String(start.method)) ? String(start.method) : "interpolation",
    density: within(start.density, 0.05, 1, 0.2),
    mode,
    coefficients: Object.fromEntries(coefficients),
    question: (typeof start.question === "string" && bare(start.question.slice(0, LONGEST))) || otherwise.question,
  };
}

/** @param {unknown} value @param {number} low @param {number} high @param {number} otherwise @returns {number} */
function within(value, low, high, otherwise) {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? tidy(clamp(number, low, high)) : otherwise;
}

/** The state as the part of an address after #. @param {State} state @param {string[]} layers */
export function toHash(state, layers) {
  const parts = new URLSearchParams();
  const shared = sharedBy(state, layers);
  if (state.mode === "one" && shared !== null) parts.set("l", String(tidy(shared)));
  else {
    const values = keysOf(state.mode, layers).map((key) => tidy(coefficientOf(state, key)));
    parts.set(state.mode === "part" ? "parts" : "layers", values.join("_"));
  }
  if (state.method !== "interpolation") parts.set("method", state.method);
  if (state.method === "ties") parts.set("density", String(state.density));
  parts.set("q", state.question);
  return `#${parts}`;
}

/** The state that a link holds, without its problem or its merge where the link holds none that can be read; null where
 * it holds neither. What is out of place is left out.
 * @param {string} hash @param {string[]} layers @returns {Partial<State> | null} */
export function fromHash(hash, layers) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const question = parts.get("q");
  const coefficients = coefficientsIn(parts, layers);
  if (!coefficients && question === null) return null;
  const merge = coefficients && {
    mode: modeIn(parts),
    coefficients,
    method: parts.get("method") ?? "interpolation",
    density: parts.get("density") ?? 0.2,
  };
  return /** @type {any} */ ({ ...merge, ...(question === null ? {} : { question }) });
}

/** @param {URLSearchParams} parts */
function modeIn(parts) {
  return parts.has("parts") ? "part" : parts.has("layers") ? "layer" : "one";
}

/** λ of a link; null where one is missing or is no number. @param {URLSearchParams} parts @param {string[]} layers */
function coefficientsIn(parts, layers) {
  const mode = modeIn(parts);
  const keys = keysOf(mode, layers);
  const one = parts.get("l") ?? "";
  const values = mode === "one" ? keys.map(() => one) : (parts.get("parts") ?? parts.get("layers") ?? "").split("_");
  const known = values.length === keys.length && values.every((value) => Number.isFinite(within(value, -9, 9, NaN)));
  return known ? Object.fromEntries(keys.map((key, k) => [key, values[k]])) : null;
}
