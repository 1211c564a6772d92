// bfloat16 is the upper half of a float32.

/**
 * Stored numbers as float32.
 * @param {Uint16Array} bits of bfloat16
 * @returns {Float32Array} the same numbers
 */
export function fromBfloat16(bits) {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}

/**
 * Round in place to the nearest number that bfloat16 has, halves to even: what a merge is stored as.
 * @param {Float32Array} numbers finite
 */
export function roundToBfloat16(numbers) {
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    words[i] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  }
}
