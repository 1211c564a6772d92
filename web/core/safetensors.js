// Reads a safetensors file: eight bytes of length, a header in JSON, then the numbers.
// The format is described at https://github.com/huggingface/safetensors.
import { fromBfloat16 } from "./bfloat16.js";

/**
 * @typedef {{ shape: number[], data: Float32Array }} Tensor
 * @typedef {Map<string, Tensor>} Tensors
 */

const LONGEST_HEADER = 1e7; // bytes
/** @type {Record<string, number>} */
const BYTES = { BF16: 2, F32: 4 };

/**
 * All tensors of a file, as float32.
 * @param {ArrayBuffer} buffer the whole file
 * @returns {Tensors}
 * @throws {Error} for a file that is broken, or has tensors of another dtype than BF16 and F32
 */
export function readSafetensors(buffer) {
  if (buffer.byteLength < 8) throw new Error("The model's file is too short for safetensors.");
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > LONGEST_HEADER || 8 + length > buffer.byteLength) {
    throw new Error("The model's file breaks off in its header.");
  }
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") tensors.set(name, readTensor(buffer, 8 + length, name, entry));
  }
  return tensors;
}

/**
 * @param {ArrayBuffer} buffer
 * @param {number} origin where the numbers start
 * @param {string} name
 * @param {{ dtype: string, shape: number[], data_offsets: number[] }} entry
 * @returns {Tensor}
 */
function readTensor(buffer, origin, name, { dtype, shape, data_offsets: [begin, end] }) {
  const bytes = BYTES[dtype];
  if (!bytes) throw new Error(`Tensor ${name} has dtype ${dtype}; only BF16 and F32 are read.`);
  const size = shape.reduce((product, n) => product * n, 1);
  if (end - begin !== size * bytes || begin < 0 || origin + end > buffer.byteLength) {
    throw new Error(`Tensor ${name} does not lie within the file as its shape says.`);
  }
  const raw = buffer.slice(origin + begin, origin + end);
  return { shape, data: bytes === 2 ? fromBfloat16(new Uint16Array(raw)) : new Float32Array(raw) };
}
