import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBfloat16, roundToBfloat16 } from "../core/bfloat16.js";
import { answerOf, prompt, steps } from "../core/grading.js";
import { multiply } from "../core/matmul.js";
import { mergeTensors, placeOf } from "../core/merge.js";
import { readSafetensors } from "../core/safetensors.js";

const file = (header, bytes = 0) => {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const buffer = new ArrayBuffer(8 + text.length + bytes);
  new DataView(buffer).setBigUint64(0, BigInt(text.length), true);
  new Uint8Array(buffer).set(text, 8);
  return buffer;
};

test("bfloat16 rounds to nearest, halves to even", () => {
  const numbers = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1 - 3 * 2 ** -8, 0);
  roundToBfloat16(numbers);
  assert.deepEqual([...numbers], [1, 1, 1 + 2 ** -6, 1 + 2 ** -7, -1 - 2 ** -6, 0]);
  assert.deepEqual([...fromBfloat16(Uint16Array.of(0x3f80, 0xc000))], [1, -2]);
});

test("broken safetensors are refused", () => {
  assert.throws(() => readSafetensors(new ArrayBuffer(3)), /too short/);
  assert.throws(() => readSafetensors(file({}).slice(0, 9)), /breaks off/);
  assert.throws(() => readSafetensors(file({ a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, 8)), /dtype I64/);
  assert.throws(() => readSafetensors(file({ a: { dtype: "F32", shape: [3], data_offsets: [0, 8] } }, 8)), /tensor a/i);
  assert.throws(
    () => readSafetensors(file({ a: { dtype: "F32", shape: [2], data_offsets: [8, 16] } }, 8)),
    /tensor a/i,
  );
});

test("products equal a plain sum, for any number of rows and of x", () => {
  for (const [rows, columns, count] of [
    [5, 3, 1],
    [8, 4, 4],
    [7, 5, 6],
    [1, 1, 9],
  ]) {
    const weight = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i));
    const bias = Float32Array.from({ length: rows }, (_, i) => i);
    const x = Float64Array.from({ length: count * columns }, (_, i) => Math.cos(i));
    const y = new Float64Array(count * rows);
    multiply(weight, bias, x, y, rows, columns, count);
    for (let k = 0; k < count; k++) {
      for (let row = 0; row < rows; row++) {
        let sum = bias[row];
        for (let i = 0; i < columns; i++) sum += weight[row * columns + i] * x[k * columns + i];
        assert.ok(Math.abs(y[k * rows + row] - sum) < 1e-12);
      }
    }
  }
});

test("every tensor has its layer and its group", () => {
  const places = Object.fromEntries(
    [
      "model.embed_tokens.weight",
      "model.norm.weight",
      "lm_head.weight",
      "model.layers.11.input_layernorm.weight",
      "model.layers.2.self_attn.q_proj.bias",
      "model.layers.2.mlp.up_proj.weight",
      "model.layers.2.post_attention_layernorm.weight",
    ].map((name) => [name, placeOf(name).group]),
  );
  assert.deepEqual(Object.values(places), [
    "embed",
    "norm",
    "lm_head",
    "11.attention",
    "2.attention",
    "2.mlp",
    "2.mlp",
  ]);
});

test("a setting that cannot be merged is refused", () => {
  const one = new Map([["model.norm.weight", { shape: [1], data: Float32Array.of(1) }]]);
  const two = new Map([["model.norm.weight", { shape: [2], data: Float32Array.of(1, 2) }]]);
  const setting = { method: "task_arithmetic", coefficients: { norm: 0.5 } };
  assert.throws(() => mergeTensors(one, one, { ...setting, method: "soup" }), /unknown/);
  assert.throws(() => mergeTensors(one, one, { ...setting, coefficients: {} }), /λ of norm/);
  assert.throws(() => mergeTensors(one, one, { ...setting, coefficients: { norm: NaN } }), /λ of norm/);
  assert.throws(() => mergeTensors(one, one, { ...setting, method: "ties", density: 0 }), /density/);
  assert.throws(() => mergeTensors(one, two, setting), /shape/);
});

test("steps are checked from left to right", () => {
  const found = steps(" 17+4,-6=15. check: 15+6=20, yes. 9*2/3=6. the answer is 15.");
  assert.equal(
    found.map((piece) => piece.text).join(""),
    " 17+4,-6=15. check: 15+6=20, yes. 9*2/3=6. the answer is 15.",
  );
  assert.deepEqual(
    found.filter((p) => p.step).map((p) => [p.text, p.wrong]),
    [
      ["17+4,-6=15", false],
      ["15+6=20", true],
      ["9*2/3=6", false],
    ],
  );
  assert.deepEqual(steps("no working"), [{ text: "no working", step: false, wrong: false }]);
});

test("answers and prompts are read as the benchmark does", () => {
  assert.equal(answerOf("the answer is 4. no: the answer is 5."), "5");
  assert.equal(answerOf("the answer is 4"), "[invalid]");
  assert.equal(prompt(" Anna has\n3 figs. "), "question: anna has 3 figs. answer:");
  assert.equal(prompt("question: x answer:"), "question: x answer:");
});
