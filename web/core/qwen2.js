// The forward pass of a Qwen2 model (RMSNorm, rotary positions, grouped-query attention, SwiGLU), token by token.
//
//   row     one token at its place in a text; a pass takes several rows, of one text or of many
//   cache   the keys and values of a text so far
import { multiply } from "./matmul.js";

/** @typedef {import("./safetensors.js").Tensors} Tensors */
/** @typedef {{ keys: Float32Array[], values: Float32Array[] }} Cache */
/** @typedef {ReturnType<typeof layerTensors>} Layer */
/** @typedef {{ token: number, position: number, cache: Cache }} Row */
/**
 * next: the most likely token after each of the rows `ends`. longest: tokens of a text. newCache: room for so many.
 * @typedef {{ newCache: (tokens: number) => Cache, next: (rows: Row[], ends: number[]) => number[],
 *   longest: number }} Model
 */

/**
 * @param {any} config config.json
 * @param {Tensors} tensors
 * @returns {Model}
 * @throws {Error} for another architecture, or a tensor that is missing
 */
export function makeModel(config, tensors) {
  if (config.model_type !== "qwen2") throw new Error(`The page runs models of type qwen2, not ${config.model_type}.`);
  const width = config.hidden_size;
  const get = (/** @type {string} */ name) => {
    const found = tensors.get(name);
    if (!found) throw new Error(`The model has no tensor ${name}.`);
    return found.data;
  };
  const block = makeBlock(config);
  const layers = Array.from({ length: config.num_hidden_layers }, (_, i) => layerTensors(get, `model.layers.${i}.`));
  const [embedding, norm] = [get("model.embed_tokens.weight"), get("model.norm.weight")];
  const head = config.tie_word_embeddings ? embedding : get("lm_head.weight");
  return {
    longest: config.max_position_embeddings,
    newCache: (tokens) => newCache(layers.length, tokens * block.keyWidth),
    next(rows, ends) {
      const x = new Float64Array(rows.length * width);
      rows.forEach((row, k) => x.set(embedding.subarray(row.token * width, (row.token + 1) * width), k * width));
      layers.forEach((layer, depth) => block.run(layer, depth, rows, x));
      const last = new Float64Array(ends.length * width);
      ends.forEach((row, k) => last.set(x.subarray(row * width, (row + 1) * width), k * width));
      const logits = new Float64Array(ends.length * config.vocab_size);
      multiply(head, null, normalized(last, norm, config.rms_norm_eps), logits, config.vocab_size, width, ends.length);
      return ends.map((_, k) => largest(logits, k * config.vocab_size, config.vocab_size));
    },
  };
}

/** @param {number} layers @param {number} size @returns {Cache} */
function newCache(layers, size) {
  const make = () => Array.from({ length: layers }, () => new Float32Array(size));
  return { keys: make(), values: make() };
}

/** @param {(name: string) => Float32Array} get @param {string} prefix */
function layerTensors(get, prefix) {
  const part = (/** @type {string} */ name) => get(`${prefix}${name}.weight`);
  const biased = (/** @type {string} */ name) => ({ weight: part(name), bias: get(`${prefix}${name}.bias`) });
  return {
    before: part("input_layernorm"),
    after: part("post_attention_layernorm"),
    out: part("self_attn.o_proj"),
    query: biased("self_attn.q_proj"),
    key: biased("self_attn.k_proj"),
    value: biased("self_attn.v_proj"),
    gate: part("mlp.gate_proj"),
    up: part("mlp.up_proj"),
    down: part("mlp.down_proj"),
  };
}

/**
 * What all blocks of a model share: its sizes, its rotations, and the pass through a block.
 * @param {any} config
 */
function makeBlock(config) {
  const [width, inner, heads] = [config.hidden_size, config.intermediate_size, config.num_attention_heads];
  const size = config.head_dim ?? width / heads;
  const [queryWidth, keyWidth] = [heads * size, config.num_key_value_heads * size];
  const rotate = makeRotation(size, config.rope_parameters?.rope_theta ?? config.rope_theta);
  const shape = { heads, size, keyWidth, group: heads / config.num_key_value_heads };
  return {
    keyWidth,
    /** @param {Layer} layer @param {number} depth @param {Row[]} rows @param {Float64Array} x */
    run(layer, depth, rows, x) {
      const n = rows.length;
      const array = (/** @type {number} */ columns) => new Float64Array(n * columns);
      const [query, key, value, seen, out] = [queryWidth, keyWidth, keyWidth, queryWidth, width].map(array);
      const first = normalized(x, layer.before, config.rms_norm_eps);
      multiply(layer.query.weight, layer.query.bias, first, query, queryWidth, width, n);
      multiply(layer.key.weight, layer.key.bias, first, key, keyWidth, width, n);
      multiply(layer.value.weight, layer.value.bias, first, value, keyWidth, width, n);
      rows.forEach(({ position, cache }, k) => {
        rotate(query, k * queryWidth, heads, position);
        rotate(key, k * keyWidth, config.num_key_value_heads, position);
        cache.keys[depth].set(key.subarray(k * keyWidth, (k + 1) * keyWidth), position * keyWidth);
        cache.values[depth].set(value.subarray(k * keyWidth, (k + 1) * keyWidth), position * keyWidth);
      });
      rows.forEach(({ position, cache }, k) =>
        attend(query, seen, k * queryWidth, cache.keys[depth], cache.values[depth], position + 1, shape),
      );
      multiply(layer.out, null, seen, out, width, queryWidth, n);
      add(x, out);
      const second = normalized(x, layer.after, config.rms_norm_eps);
      const [gate, up] = [inner, inner].map(array);
      multiply(layer.gate, null, second, gate, inner, width, n);
      multiply(layer.up, null, second, up, inner, width, n);
      for (let i = 0; i < gate.length; i++) gate[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i];
      multiply(layer.down, null, gate, out, width, inner, n);
      add(x, out);
    },
  };
}

/** @param {Float64Array} x @param {Float64Array} y added to x */
function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

/**
 * RMSNorm of each row.
 * @param {Float64Array} x (rows, width)
 * @param {Float32Array} weight (width,)
 * @param {number} epsilon
 * @returns {Float64Array}
 */
function normalized(x, weight, epsilon) {
  const width = weight.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x[start + i] * x[start + i];
    const scale = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) y[start + i] = x[start + i] * scale * weight[i];
  }
  return y;
}

/**
 * Rotary positions; angles in float32, as transformers has them.
 * @param {number} size of a head
 * @param {number} theta
 */
function makeRotation(size, theta) {
  const half = size / 2;
  const frequencies = Float32Array.from({ length: half }, (_, i) => theta ** ((-2 * i) / size));
  /** @param {Float64Array} x @param {number} start @param {number} heads @param {number} position */
  return (x, start, heads, position) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(frequencies[i] * position);
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      for (let head = 0; head < heads; head++) {
        const [a, b] = [start + head * size + i, start + head * size + half + i];
        const [one, two] = [x[a], x[b]];
        x[a] = one * cosine - two * sine;
        x[b] = two * cosine + one * sine;
      }
    }
  };
}

/**
 * Attention of one row over the first `length` tokens of its text.
 * @param {Float64Array} query
 * @param {Float64Array} out written at the same place
 * @param {number} start
 * @param {Float32Array} keys
 * @param {Float32Array} values
 * @param {number} length
 * @param {{ heads: number, size: number, keyWidth: number, group: number }} shape
 */
function attend(query, out, start, keys, values, length, { heads, size, keyWidth, group }) {
  const weights = new Float64Array(length);
  for (let head = 0; head < heads; head++) {
    const [own, shared] = [start + head * size, Math.floor(head / group) * size];
    let highest = -Infinity;
    for (let t = 0; t < length; t++) {
      let dot = 0;
      for (let i = 0; i < size; i++) dot += query[own + i] * keys[t * keyWidth + shared + i];
      weights[t] = dot / Math.sqrt(size);
      highest = Math.max(highest, weights[t]);
    }
    let total = 0;
    for (let t = 0; t < length; t++) total += weights[t] = Math.exp(weights[t] - highest);
    for (let t = 0; t < length; t++) {
      const weight = weights[t] / total;
      for (let i = 0; i < size; i++) out[own + i] += weight * values[t * keyWidth + shared + i];
    }
  }
}

/**
 * Where the largest number of a row is; the first of equals.
 * @param {Float64Array} numbers
 * @param {number} start
 * @param {number} length
 * @returns {number}
 */
function largest(numbers, start, length) {
  let best = 0;
  for (let i = 1; i < length; i++) if (numbers[start + i] > numbers[start + best]) best = i;
  return best;
}
