// Two parents and their merge, ready to answer. The worker runs one session; so do the tests, without a worker.
import { addTokens, startText } from "./generate.js";
import { answerOf, prompt } from "./grading.js";
import { mergeTensors, placeOf } from "./merge.js";
import { makeModel } from "./qwen2.js";
import { readSafetensors } from "./safetensors.js";
import { makeTokenizer } from "./tokenizer.js";

/** @typedef {{ text: string, tokens: number[], length: number, truncated: boolean, milliseconds: number }} Answer */
/** @typedef {{ task: string, item: number, question: string, gold: string }} Item */
/** @typedef {Omit<Answer, "milliseconds"> & { task: string, item: number, answer: string, correct: boolean }} Grade */
/** @typedef {{ fast: ArrayBuffer, slow: ArrayBuffer, config: any, tokenizer: any }} Files */
/** @typedef {{ id: number, text: string, index: number }} Token */

const CAP = 320; // tokens of an answer, as in the profile tiny
const TOGETHER = 8; // items that are measured at a time

/** @typedef {{ tokenizer: ReturnType<typeof makeTokenizer>, end: number, cap: number }} Writing */

/**
 * @param {Files} files
 */
export function makeSession({ fast, slow, config, tokenizer: json }) {
  const [base, finetuned] = [readSafetensors(fast), readSafetensors(slow)];
  /** @type {Record<string, import("./qwen2.js").Model>} */
  const models = { fast: makeModel(config, base), slow: makeModel(config, finetuned) };
  const writing = { tokenizer: makeTokenizer(json), end: config.eos_token_id, cap: CAP };
  return {
    ...layersOf(base, config),
    unknown: (/** @type {string} */ question) => writing.tokenizer.unknown(prompt(question)),
    /** @param {import("./merge.js").Setting} setting */
    merge(setting) {
      const began = performance.now();
      models.merged = makeModel(config, mergeTensors(base, finetuned, setting));
      return { milliseconds: performance.now() - began };
    },
    /**
     * A model's answer. `pause` is awaited between tokens; it throws to stop.
     * @param {string} who
     * @param {string} question
     * @param {(token: Token) => void} onToken
     * @param {() => Promise<void>} pause
     * @returns {Promise<Answer>}
     */
    ask: async (who, question, onToken, pause) => writeAnswer(writing, chosen(models, who), question, onToken, pause),
    /**
     * Grades of the merge on items, in their order.
     * @param {Item[]} items
     * @param {(grade: Grade) => void} onItem
     * @param {() => Promise<void>} pause
     * @returns {Promise<Grade[]>}
     */
    measure: async (items, onItem, pause) => gradeItems(writing, chosen(models, "merged"), items, onItem, pause),
  };
}

/**
 * @param {Writing} writing @param {import("./qwen2.js").Model} model @param {string} question
 * @param {(token: Token) => void} onToken @param {() => Promise<void>} pause
 */
async function writeAnswer({ tokenizer, end, cap }, model, question, onToken, pause) {
  const text = startText(model, tokenizer.encode(prompt(question)), cap);
  let milliseconds = 0;
  while (!text.done) {
    await pause();
    const [began, before] = [performance.now(), text.tokens.length];
    addTokens(model, [text], end, cap);
    milliseconds += performance.now() - began;
    text.tokens.slice(before).forEach((id) => onToken({ id, text: tokenizer.decode([id]), index: before }));
  }
  const { tokens, truncated } = text;
  return { text: tokenizer.decode(tokens), tokens, length: tokens.length, truncated, milliseconds };
}

/**
 * @param {Writing} writing @param {import("./qwen2.js").Model} model @param {Item[]} items
 * @param {(grade: Grade) => void} onItem @param {() => Promise<void>} pause
 */
async function gradeItems({ tokenizer, end, cap }, model, items, onItem, pause) {
  const grades = [];
  for (let first = 0; first < items.length; first += TOGETHER) {
    const part = items.slice(first, first + TOGETHER);
    const texts = part.map((item) => startText(model, tokenizer.encode(item.question), cap));
    while (texts.some((text) => !text.done)) {
      await pause();
      addTokens(model, texts, end, cap);
    }
    for (const [i, { tokens, truncated }] of texts.entries()) {
      const { task, item, gold } = part[i];
      const text = tokenizer.decode(tokens);
      const answer = answerOf(text);
      const grade = { task, item, answer, correct: answer === gold, text, tokens, length: tokens.length, truncated };
      grades.push(grade);
      onItem(grade);
    }
  }
  return grades;
}

/**
 * @template T
 * @param {Record<string, T>} models
 * @param {string} who
 * @returns {T}
 */
function chosen(models, who) {
  if (!models[who]) throw new Error(who === "merged" ? "Nothing was merged yet." : `There is no model ${who}.`);
  return models[who];
}

/**
 * Layers from the first to the last, and groups in the same order.
 * @param {import("./safetensors.js").Tensors} tensors
 * @param {any} config
 */
function layersOf(tensors, config) {
  const blocks = Array.from({ length: config.num_hidden_layers }, (_, i) => String(i));
  const layers = ["embed", ...blocks, "norm", ...(tensors.has("lm_head.weight") ? ["lm_head"] : [])];
  const present = new Set([...tensors.keys()].map((name) => placeOf(name).group));
  const groups = layers.flatMap((layer) => [layer, `${layer}.attention`, `${layer}.mlp`]).filter((g) => present.has(g));
  return { layers, groups };
}
