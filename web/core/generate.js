// Greedy answers of a model to one prompt or to many, token by token.

/** @typedef {import("./qwen2.js").Model} Model */

/**
 * One text on its way: `tokens` are those generated so far. `done` once the end token came or the cap is reached.
 * @typedef {{ tokens: number[], done: boolean, truncated: boolean, step: Pending }} Text
 * @typedef {{ rows: import("./qwen2.js").Row[], cache: import("./qwen2.js").Cache, position: number }} Pending
 */

/**
 * @param {Model} model
 * @param {number[]} ids of the prompt
 * @param {number} cap the most tokens of the answer
 * @returns {Text}
 * @throws {Error} for a prompt that leaves no room for the answer
 */
export function startText(model, ids, cap) {
  const room = model.longest - cap;
  if (ids.length > room) throw new Error(`The problem has ${ids.length} tokens; the models have room for ${room}.`);
  const cache = model.newCache(ids.length + cap);
  const rows = ids.map((token, position) => ({ token, position, cache }));
  return { tokens: [], done: false, truncated: false, step: { rows, cache, position: ids.length } };
}

/**
 * Add a token to each text that is not done.
 * @param {Model} model
 * @param {Text[]} texts
 * @param {number} end the end token
 * @param {number} cap
 */
export function addTokens(model, texts, end, cap) {
  const going = texts.filter((text) => !text.done);
  const rows = going.flatMap((text) => text.step.rows);
  let count = 0;
  const ends = going.map((text) => (count += text.step.rows.length) - 1);
  model.next(rows, ends).forEach((token, i) => {
    const text = going[i];
    if (token === end) {
      text.done = true;
      return;
    }
    text.tokens.push(token);
    text.truncated = text.done = text.tokens.length === cap;
    const { cache, position } = text.step;
    text.step = { rows: [{ token, position, cache }], cache, position: position + 1 };
  });
}
