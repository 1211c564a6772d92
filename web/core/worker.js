// The worker: a session behind messages { call, name, arguments } → { call, result | error } and { call, event }.
import { makeSession } from "./session.js";

const SLICE = 12; // milliseconds of work between two looks at the messages
/** @type {any} */
const scope = globalThis;
/** @type {any} */
let session = null;
/** @type {Set<number>} */
const running = new Set();
/** @type {Set<number>} */
const aborted = new Set();
let lastPause = 0;

/** Let the messages that wait be read. A message to oneself comes sooner than a timer. */
const breathe = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => (port1.close(), resolve(undefined));
    port2.postMessage(null);
  });

/** @param {number} call */
const pauseOf = (call) => async () => {
  if (performance.now() - lastPause > SLICE) {
    await breathe();
    lastPause = performance.now();
  }
  if (aborted.has(call)) throw new DOMException("stopped", "AbortError");
};

/** @param {number} call @param {string} name @param {any[]} given */
async function answer(call, name, given) {
  const event = (/** @type {unknown} */ value) => scope.postMessage({ call, event: value });
  if (name === "load") {
    session = makeSession(given[0]);
    return { layers: session.layers, groups: session.groups };
  }
  if (!session) throw new Error("The models are not loaded yet.");
  if (name === "ask") return session.ask(given[0], given[1], event, pauseOf(call));
  if (name === "measure") return session.measure(given[0], event, pauseOf(call));
  return session[name](...given);
}

scope.onmessage = async (/** @type {MessageEvent} */ { data: { call, name, given } }) => {
  if (name === "abort") {
    if (running.has(call)) aborted.add(call);
    return;
  }
  running.add(call);
  try {
    scope.postMessage({ call, result: await answer(call, name, given) });
  } catch (error) {
    const { name: kind, message } = /** @type {Error} */ (error);
    scope.postMessage({ call, error: { name: kind, message } });
  } finally {
    aborted.delete(call);
    running.delete(call);
  }
};
