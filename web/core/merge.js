// Merges a fine-tuned model into a base: θ_0 + λ δ with δ = θ_1 − θ_0, as acm.merge does, number for number.
//
//   base       θ_0        coefficients  λ   of each group of tensors
//   finetuned  θ_1        density       1 − k, the share of a tensor's δ that TIES keeps
import { roundToBfloat16 } from "./bfloat16.js";

/** @typedef {import("./safetensors.js").Tensors} Tensors */
/** @typedef {{ method: string, density?: number, coefficients: Record<string, number> }} Setting */

export const METHODS = ["interpolation", "task_arithmetic", "ties"];

/**
 * The layer of a tensor (embed, 0, 1, …, norm, lm_head), and its group: in a block the attention or the MLP, each with
 * the norm before it.
 * @param {string} name
 * @returns {{ layer: string, group: string }}
 */
export function placeOf(name) {
  const block = /^model\.layers\.(\d+)\.(.*)$/.exec(name);
  if (block) {
    const part = /^(mlp|post_attention)/.test(block[2]) ? "mlp" : "attention";
    return { layer: block[1], group: `${block[1]}.${part}` };
  }
  const layer = name.startsWith("model.embed_tokens") ? "embed" : name.startsWith("lm_head") ? "lm_head" : "norm";
  return { layer, group: layer };
}

/**
 * Merge all tensors. The result is rounded to bfloat16, as the engine stores it.
 * @param {Tensors} base
 * @param {Tensors} finetuned
 * @param {Setting} setting a key of coefficients is a group or a whole layer
 * @returns {Tensors}
 * @throws {Error} for an unknown method, a λ that is missing or no number, a density outside (0, 1], or unlike models
 */
export function mergeTensors(base, finetuned, { method, density = 1, coefficients }) {
  if (!METHODS.includes(method))
    throw new Error(`The method ${method} is unknown; choose one of ${METHODS.join(", ")}.`);
  if (method === "ties" && !(density > 0 && density <= 1))
    throw new Error("The density must lie above 0 and be at most 1.");
  const merged = new Map();
  for (const [name, { shape, data }] of base) {
    const { layer, group } = placeOf(name);
    const coefficient = coefficients[group] ?? coefficients[layer];
    const other = finetuned.get(name)?.data;
    if (!Number.isFinite(coefficient)) throw new Error(`λ of ${group} is missing, or is no number.`);
    if (other?.length !== data.length) throw new Error(`The two models differ in the shape of ${name}.`);
    merged.set(name, { shape, data: mergeTensor(data, other, coefficient, method === "ties" ? density : 1, method) });
  }
  return merged;
}

/**
 * @param {Float32Array} base
 * @param {Float32Array} finetuned
 * @param {number} coefficient
 * @param {number} density
 * @param {string} method
 * @returns {Float32Array}
 */
function mergeTensor(base, finetuned, coefficient, density, method) {
  if (method !== "ties" && coefficient === 0) return base; // 0 and 1 copy the bytes, as in the engine
  if (method !== "ties" && coefficient === 1) return finetuned;
  const factor = Math.fround(coefficient);
  const merged = new Float32Array(base.length);
  for (let i = 0; i < merged.length; i++) merged[i] = finetuned[i] - base[i];
  const low = density < 1 ? smallestKept(merged, density) : 0;
  for (let i = 0; i < merged.length; i++) {
    const delta = Math.abs(merged[i]) >= low ? merged[i] : 0;
    merged[i] = base[i] + Math.fround(factor * delta);
  }
  roundToBfloat16(merged);
  return merged;
}

/**
 * The smallest |δ| that trimming keeps. Entries tied with it stay, too.
 * @param {Float32Array} deltas
 * @param {number} density
 * @returns {number}
 */
function smallestKept(deltas, density) {
  const sizes = deltas.map(Math.abs).sort();
  return sizes[sizes.length - Math.max(1, Math.floor(density * sizes.length))];
}
