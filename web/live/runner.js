// Keeps the engine busy with the newest wish alone: loads it, merges, and asks the three models.

import { answerOf } from "../core/grading.js";

const GRACE = 150; // milliseconds that an answer has for its first token before a newer wish stops it

/**
 * @typedef {import("./state.js").State} State
 * @typedef {"fast" | "merged" | "slow"} Who
 * @typedef {{
 *   onStatus: (kind: string, detail?: any) => void,
 *   onStart: (who: Who, question: string) => void, onToken: (who: Who, text: string) => void,
 *   onAnswer: (who: Who, result: { text: string, length: number, truncated: boolean }) => void,
 *   onUnknown: (words: string[]) => void,
 * }} Hooks
 */

/**
 * @param {(onProgress: (loaded: number, total: number) => void) => Promise<any>} start
 * @param {(state: State) => string} mergeKeyOf
 * @param {Hooks} hooks
 */
export function createRunner(start, mergeKeyOf, hooks) {
  const at = {
    merged: "",
    question: /** @type {string | null} */ (null),
    failed: false,
    measuring: 0,
    pace: 0,
    took: 0,
  };
  /** @type {Partial<Record<Who, AbortController>>} */
  const asking = {};
  /** @type {Promise<any> | null} */
  let loading = null;
  /** @type {State | null} */
  let wanted = null;
  let pumping = /** @type {Promise<void> | null} */ (null);
  let closed = false;
  let shown = Promise.resolve(); // the merge at hand has shown a token, or took its time

  function ready() {
    loading ??= start((loaded, total) => hooks.onStatus("loading", { loaded, total })).catch((error) => {
      loading = null; // the next wish tries again
      throw error;
    });
    return loading;
  }

  /** Nothing is asked any more. */
  function rest() {
    if (!closed) hooks.onStatus(at.measuring ? "measuring" : "ready", at);
  }

  async function pump() {
    const engine = await ready();
    while (wanted && !closed) {
      await shown;
      asking.merged?.abort();
      const job = wanted;
      wanted = null;
      const asked = job.question !== at.question;
      if (asked && (await refused(engine, job))) continue;
      await mergeFor(engine, job);
      if (!wanted) void ask(engine, "merged", job.question);
      if (asked && !wanted)
        for (const who of /** @type {Who[]} */ (["fast", "slow"])) void ask(engine, who, job.question);
      if (asked && wanted) at.question = null;
    }
  }

  /** Whether the question has words that the models never saw. @param {any} engine @param {State} job */
  async function refused(engine, job) {
    const words = await engine.unknown(job.question);
    at.question = job.question;
    hooks.onUnknown(words);
    if (words.length) for (const controller of Object.values(asking)) controller?.abort();
    if (words.length) rest();
    if (words.length) at.question = null;
    return words.length > 0;
  }

  /** @param {any} engine @param {State} job */
  async function mergeFor(engine, job) {
    const key = mergeKeyOf(job);
    if (key === at.merged) return;
    hooks.onStatus("merging");
    at.merged = "";
    const { method, density, coefficients } = job;
    at.took = (await engine.merge({ method, density, coefficients })).milliseconds;
    at.merged = key;
  }

  /** @param {any} engine @param {Who} who @param {string} question */
  async function ask(engine, who, question) {
    asking[who]?.abort();
    const controller = new AbortController();
    asking[who] = controller;
    const begun = patience();
    if (who === "merged") shown = begun.over;
    hooks.onStatus("answering");
    hooks.onStart(who, question);
    try {
      const onToken = (/** @type {{ text: string }} */ token) => {
        begun.end();
        if (!controller.signal.aborted) hooks.onToken(who, token.text);
      };
      const result = await engine.ask(who, question, { onToken, signal: controller.signal });
      if (controller.signal.aborted) return;
      at.pace = result.milliseconds / Math.max(1, result.length);
      hooks.onAnswer(who, result);
    } catch (error) {
      if (!isAbort(error)) fail(error);
    } finally {
      begun.end();
      if (asking[who] === controller) delete asking[who];
      if (!Object.keys(asking).length && !pumping && !at.failed) rest();
    }
  }

  /** @param {unknown} error */
  function fail(error) {
    if (closed) return;
    at.failed = true;
    at.question = null; // all three are asked anew by the next wish
    hooks.onStatus("failed", error instanceof Error ? error.message : String(error));
  }

  /** Merges and answers as soon as can be; an older wish gives way. @param {State} state */
  function request(state) {
    wanted = state;
    at.failed = false;
    pumping ??= pump()
      .catch(fail)
      .finally(() => {
        pumping = null;
        if (wanted && !at.failed) void request(wanted);
      });
    return pumping;
  }

  /** Grades the merge of a state on items. @param {State} state @param {any[]} items @param {any} options */
  async function measure(state, items, options) {
    at.failed = false;
    at.measuring += 1;
    try {
      const engine = await ready();
      await pumping;
      options.signal.throwIfAborted();
      await mergeFor(engine, state);
      hooks.onStatus("measuring");
      return await engine.measure(items, options);
    } catch (error) {
      if (!isAbort(error)) fail(error);
      throw error;
    } finally {
      at.measuring -= 1;
      if (!Object.keys(asking).length && !pumping && !at.failed) rest();
    }
  }

  return {
    request,
    measure,
    busy: () => pumping !== null || asking.merged !== undefined,
    close() {
      closed = true;
      for (const controller of Object.values(asking)) controller?.abort();
      void loading?.then((engine) => engine.close()).catch(() => {});
    },
  };
}

/** A promise that is kept when `end` is called, or a little later. */
function patience() {
  let end = () => {};
  /** @type {Promise<void>} */
  const over = new Promise((resolve) => {
    end = resolve;
    setTimeout(resolve, GRACE);
  });
  return { over, end };
}

/** Whether an error only says that work was stopped. @param {any} error */
export function isAbort(error) {
  return error?.name === "AbortError";
}

/**
 * The final answer, null without one, and whether it is right, null where nobody can tell.
 * @param {string} text @param {string | null} gold
 */
export function gradeOf(text, gold) {
  const found = answerOf(text);
  const answer = found === "[invalid]" ? null : found;
  return { answer, right: gold === null ? null : answer === gold };
}
