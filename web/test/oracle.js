// Does what a Python test asks of the core, so that the test can compare. Reads { folder, work: [...] } from standard
// input and writes a list of results.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { answerOf, steps } from "../core/grading.js";
import { mergeTensors } from "../core/merge.js";
import { readSafetensors } from "../core/safetensors.js";
import { makeSession } from "../core/session.js";
import { makeTokenizer } from "../core/tokenizer.js";

const { folder, work } = JSON.parse(readFileSync(0, "utf8"));
const json = (name) => JSON.parse(readFileSync(`${folder}/abacus-fast/${name}`, "utf8"));
const model = (name) => new Uint8Array(readFileSync(`${folder}/${name}/model.safetensors`)).buffer;
const [config, tokenizer] = [json("config.json"), json("tokenizer.json")];
const nothing = () => {};

const tasks = {
  /** A parent's answers, one by one, or the merge's, as items are measured. */
  async answers({ setting, who, items }) {
    const session = makeSession({ fast: model("abacus-fast"), slow: model("abacus-slow"), config, tokenizer });
    if (setting) session.merge(setting);
    if (!who) return session.measure(items, nothing, nothing);
    const found = [];
    for (const { question } of items) found.push(await session.ask(who, question, nothing, nothing));
    return found.map((answer) => ({ ...answer, answer: answerOf(answer.text) }));
  },
  encode: ({ texts }) => texts.map((text) => makeTokenizer(tokenizer).encode(text)),
  decode: ({ tokens }) => tokens.map((ids) => makeTokenizer(tokenizer).decode(ids)),
  unknown: ({ texts }) => texts.map((text) => makeTokenizer(tokenizer).unknown(text)),
  steps: ({ texts }) => texts.map(steps),
  /** Milliseconds of a merge, of answers one by one, and of items measured together; and the responses. */
  async speed({ questions, together }) {
    const session = makeSession({ fast: model("abacus-fast"), slow: model("abacus-slow"), config, tokenizer });
    const halves = Object.fromEntries(session.layers.map((layer) => [layer, 0.5]));
    const merges = [1, 2, 3].map(() => session.merge({ method: "task_arithmetic", coefficients: halves }).milliseconds);
    const began = performance.now();
    const one = [];
    for (const question of questions) one.push((await session.ask("merged", question, nothing, nothing)).text);
    const between = performance.now();
    const items = questions.map((question) => ({ question }));
    const eight = (await session.measure(items, nothing, nothing)).map((grade) => grade.text);
    const end = performance.now();
    return {
      merge: { milliseconds: Math.min(...merges), responses: [] },
      "one at a time": { milliseconds: between - began, responses: one },
      [`${together} at a time`]: { milliseconds: end - between, responses: eight },
    };
  },
  /** SHA-256 of each merged tensor as bfloat16. */
  merge({ setting }) {
    const merged = mergeTensors(...["abacus-fast", "abacus-slow"].map((name) => readSafetensors(model(name))), setting);
    return Object.fromEntries([...merged].map(([name, { data }]) => [name, digest(data)]));
  },
};

/** @param {Float32Array} data @returns {string} of its upper halves */
function digest(data) {
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length);
  if (words.some((word) => word & 0xffff)) throw new Error("not rounded to bfloat16");
  return createHash("sha256")
    .update(Uint16Array.from(words, (word) => word >>> 16))
    .digest("hex");
}

const results = [];
for (const { task, ...given } of work) results.push(await tasks[task](given));
process.stdout.write(JSON.stringify(results));
