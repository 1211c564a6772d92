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
 *   onUnknown: (words: string[], question: string) => void,
 * }} Hooks
 */

/**
 * What is under way. merged: the key of the engine's merge. question: what all three were asked. took, pace:
 * milliseconds of the last merge, and a token. shown: kept once the merge at hand has shown a token, or took its time.
 */
function newWork() {
  return {
    merged: "",
    question: /** @type {string | null} */ (null),
    wanted: /** @type {State | null} */ (null),
    failed: false,
    closed: false,
    measuring: 0,
    pace: 0,
    took: 0,
    asking: /** @type {Partial<Record<Who, AbortController>>} */ ({}),
    pumping: /** @type {Promise<void> | null} */ (null),
    loading: /** @type {Promise<any> | null} */ (null),
    shown: Promise.resolve(),
  };
}

/**
 * @typedef {ReturnType<typeof newWork>} Work
 * @typedef {{ work: Work, hooks: Hooks, keyOf: (state: State) => string, ready: () => Promise<any> }} Running
 */

/**
 * @param {(onProgress: (loaded: number, total: number) => void) => Promise<any>} start
 * @param {(state: State) => string} keyOf the same for states that merge alike
 * @param {Hooks} hooks
 */
export function createRunner(start, keyOf, hooks) {
  const work = newWork();
  const ready = () => {
    work.loading ??= start((loaded, total) => hooks.onStatus("loading", { loaded, total })).catch((error) => {
      work.loading = null; // the next wish tries again
      throw error;
    });
    return work.loading;
  };
  const running = { work, hooks, keyOf, ready };
  return {
    request: (/** @type {State} */ state) => requestMerge(running, state),
    measure: (/** @type {State} */ state, /** @type {any[]} */ items, /** @type {any} */ options) =>
      measureMerge(running, state, items, options),
    busy: () => work.pumping !== null || work.asking.merged !== undefined,
    close() {
      work.closed = true;
      stopAsking(work);
      void work.loading?.then((engine) => engine.close()).catch(() => {});
    },
  };
}

/**
 * Merges and answers as soon as can be; an older wish gives way.
 * @param {Running} running @param {State} state @returns {Promise<void>}
 */
function requestMerge(running, state) {
  const { work } = running;
  work.wanted = state;
  work.failed = false;
  work.pumping ??= pump(running)
    .catch((error) => fail(running, error))
    .finally(() => {
      work.pumping = null;
      if (work.wanted && !work.failed) void requestMerge(running, work.wanted);
    });
  return work.pumping;
}

/** @param {Running} running */
async function pump(running) {
  const { work } = running;
  const engine = await running.ready();
  while (work.wanted && !work.closed) {
    await work.shown;
    work.asking.merged?.abort();
    const job = work.wanted;
    work.wanted = null;
    const asked = job.question !== work.question;
    if (asked && (await hasUnknownWords(running, engine, job))) continue;
    await mergeFor(running, engine, job);
    const newer = () => work.wanted !== null;
    if (!newer()) void askModel(running, engine, "merged", job.question);
    if (asked && !newer())
      for (const who of /** @type {Who[]} */ (["fast", "slow"])) void askModel(running, engine, who, job.question);
    if (asked && newer()) work.question = null;
  }
}

/**
 * Whether the question has words that the models never saw.
 * @param {Running} running @param {any} engine @param {State} job
 */
async function hasUnknownWords({ work, hooks }, engine, job) {
  const words = await engine.unknown(job.question);
  work.question = job.question;
  hooks.onUnknown(words, job.question);
  if (!words.length) return false;
  stopAsking(work);
  rest(work, hooks);
  work.question = null;
  return true;
}

/** @param {Running} running @param {any} engine @param {State} job */
async function mergeFor({ work, hooks, keyOf }, engine, job) {
  const key = keyOf(job);
  if (key === work.merged) return;
  hooks.onStatus("merging");
  work.merged = "";
  const { method, density, coefficients } = job;
  work.took = (await engine.merge({ method, density, coefficients })).milliseconds;
  work.merged = key;
}

/** @param {Running} running @param {any} engine @param {Who} who @param {string} question */
async function askModel(running, engine, who, question) {
  const { work, hooks } = running;
  work.asking[who]?.abort();
  const controller = new AbortController();
  work.asking[who] = controller;
  const begun = patience();
  if (who === "merged") work.shown = begun.over;
  hooks.onStatus("answering");
  hooks.onStart(who, question);
  try {
    const onToken = (/** @type {{ text: string }} */ token) => {
      begun.end();
      if (!controller.signal.aborted) hooks.onToken(who, token.text);
    };
    const result = await engine.ask(who, question, { onToken, signal: controller.signal });
    if (controller.signal.aborted) return;
    work.pace = result.milliseconds / Math.max(1, result.length);
    hooks.onAnswer(who, result);
  } catch (error) {
    if (!isAbort(error)) fail(running, error);
  } finally {
    begun.end();
    if (work.asking[who] === controller) delete work.asking[who];
    restIfIdle(running);
  }
}

/**
 * Grades the merge of a state on items.
 * @param {Running} running @param {State} state @param {any[]} items @param {any} options
 */
async function measureMerge(running, state, items, options) {
  const { work, hooks } = running;
  work.failed = false;
  work.measuring += 1;
  try {
    const engine = await running.ready();
    await work.pumping;
    options.signal.throwIfAborted();
    await mergeFor(running, engine, state);
    hooks.onStatus("measuring");
    return await engine.measure(items, options);
  } catch (error) {
    if (!isAbort(error)) fail(running, error);
    throw error;
  } finally {
    work.measuring -= 1;
    restIfIdle(running);
  }
}

/** @param {Running} running @param {unknown} error */
function fail({ work, hooks }, error) {
  if (work.closed) return;
  work.failed = true;
  work.question = null; // all three are asked anew by the next wish
  hooks.onStatus("failed", messageOf(error));
}

/** @param {Work} work */
function stopAsking({ asking }) {
  for (const controller of Object.values(asking)) controller?.abort();
}

/** Nothing is asked any more. @param {Work} work @param {Hooks} hooks */
function rest(work, hooks) {
  if (!work.closed) hooks.onStatus(work.measuring ? "measuring" : "ready", work);
}

/** @param {Running} running */
function restIfIdle({ work, hooks }) {
  if (!Object.keys(work.asking).length && !work.pumping && !work.failed) rest(work, hooks);
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

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
