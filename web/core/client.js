// The page's side of the worker: each method posts a message and gives a promise of the reply.

/** @typedef {import("./session.js").Answer} Answer */
/** @typedef {import("./session.js").Item} Item */
/** @typedef {import("./session.js").Grade} Grade */
/** @typedef {import("./session.js").Token} Token */
/** @typedef {(event: any) => void} OnEvent */
/** @typedef {{ resolve: (value: any) => void, reject: (error: Error) => void, onEvent?: OnEvent }} Waiting */

/** @typedef {{ onEvent?: OnEvent, signal?: AbortSignal }} PostOptions */
/** @typedef {(name: string, given: any[], options?: PostOptions) => Promise<any>} Post */

/**
 * Start a worker.
 * @param {string} source the joined script of worker.js
 */
export function startEngine(source) {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address);
  URL.revokeObjectURL(address);
  const post = postTo(worker);
  const { alone, stop } = onePerKind();
  return {
    /** @param {import("./session.js").Files} files @returns {Promise<{ layers: string[], groups: string[] }>} */
    load: (files) =>
      post("load", [files]).catch((error) => {
        worker.terminate();
        throw error;
      }),
    /** @param {import("./merge.js").Setting} setting @returns {Promise<{ milliseconds: number }>} */
    merge: (setting) => post("merge", [setting]),
    /** @param {string} question @returns {Promise<string[]>} */
    unknown: (question) => post("unknown", [question]),
    /**
     * @param {string} who fast, slow or merged
     * @param {string} question
     * @param {{ onToken?: (token: Token) => void, signal?: AbortSignal }} [options]
     * @returns {Promise<Answer>}
     */
    ask: (who, question, { onToken, signal } = {}) =>
      post("ask", [who, question], { onEvent: onToken, signal: alone(who, signal) }),
    /**
     * @param {Item[]} items
     * @param {{ onItem?: (grade: Grade) => void, signal?: AbortSignal }} [options]
     * @returns {Promise<Grade[]>}
     */
    measure: (items, { onItem, signal } = {}) =>
      post("measure", [items], { onEvent: onItem, signal: alone("measure", signal) }),
    stop,
    close: () => (stop(), worker.terminate()),
  };
}

/** Calls that a worker answers, each by its number. @param {Worker} worker @returns {Post} */
function postTo(worker) {
  /** @type {Map<number, Waiting>} */
  const waiting = new Map();
  let calls = 0;
  worker.onmessage = ({ data }) => takeReply(waiting, data);
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message || "The worker did not start."));
    waiting.clear();
  };
  return (name, given, { onEvent, signal } = {}) =>
    new Promise((resolve, reject) => {
      const call = ++calls;
      const abort = () => {
        if (!waiting.delete(call)) return;
        worker.postMessage({ call, name: "abort" });
        reject(new DOMException("stopped", "AbortError"));
      };
      waiting.set(call, { resolve, reject, onEvent });
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      worker.postMessage({ call, name, given });
    });
}

/** @param {Map<number, Waiting>} waiting @param {any} reply */
function takeReply(waiting, { call, result, error, event }) {
  const found = waiting.get(call);
  if (!found) return;
  if (event !== undefined) return found.onEvent?.(event);
  waiting.delete(call);
  if (!error) return found.resolve(result);
  const stopped = error.name === "AbortError";
  found.reject(stopped ? new DOMException(error.message, error.name) : new Error(error.message));
}

/** A newer call of the same kind stops the older one. */
function onePerKind() {
  /** @type {Map<string, AbortController>} */
  const latest = new Map();
  return {
    /** @param {string} kind @param {AbortSignal} [signal] */
    alone(kind, signal) {
      latest.get(kind)?.abort();
      const own = new AbortController();
      latest.set(kind, own);
      return signal ? AbortSignal.any([signal, own.signal]) : own.signal;
    },
    stop() {
      for (const own of latest.values()) own.abort();
    },
  };
}
