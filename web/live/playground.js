// The live component: two models, a dial between them, and what the merge answers.

import { createControls } from "./controls.js";
import { make } from "./dom.js";
import { createModel } from "./model.js";
import { firstState } from "./presets.js";
import { goldOf, seeded, wordProblem } from "./problems.js";
import { createRunner, gradeOf } from "./runner.js";
import { mergeKey, normalised } from "./state.js";
import { createStatus } from "./status.js";
import { createStream } from "./stream.js";
import { titleOf } from "./trailview.js";
import { wordsOfTheDial } from "./words.js";

const FIRST_SEED = 7;
const FIRST_STEPS = 3;

/** @typedef {import("./state.js").State} State */

/**
 * Puts the component into an element.
 * @param {HTMLElement} root
 * @param {{ start: (onProgress: (loaded: number, total: number) => void) => Promise<any>, data: any,
 *   state?: Partial<State> | null, onChange?: (state: State) => void }} options start: gives a loaded engine;
 *   data: live.json; onChange: is told each state that has settled
 * @returns {{ get: () => State, set: (state: Partial<State>) => void, destroy: () => void }}
 */
export function mount(root, { start, data, state = null, onChange = () => {} }) {
  const { layers } = data;
  const first = firstState(data, wordProblem(seeded(FIRST_SEED), FIRST_STEPS).question);
  const streams = createStreams();
  const status = createStatus();
  const controls = createControls(
    data,
    () => model,
    () => runner,
  );
  const model = createModel(normalised(state, layers, first), layers, {
    onState(now, merged) {
      if (merged) controls.challenge.stop("Stopped: the merge changed.");
      showState(now, data, controls, streams);
      void runner.request(now);
    },
    onTrail(tried) {
      controls.trail.show(tried);
      controls.dial.canUndo(tried.length > 1);
    },
    onSettled: onChange,
  });
  const runner = createRunner(start, (of) => mergeKey(of, layers), answering(model, controls, streams, status));
  const release = [whenIdle(root, () => void runner.request(model.get())), listenForUndo(root, model.undo)];
  root.classList.add("acm-live");
  root.append(...layout(controls, streams, status));
  showState(model.get(), data, controls, streams);
  controls.trail.show(model.tried());
  return {
    get: model.get,
    set: (wanted) => model.change(normalised({ ...model.get(), ...wanted }, layers, first)),
    destroy() {
      const { question, dial, challenge, tradeoff } = controls;
      const parts = [question, dial, challenge, tradeoff].map((part) => part.destroy);
      for (const end of [...release, model.destroy, runner.close, ...parts]) end();
      root.replaceChildren();
    },
  };
}

function createStreams() {
  const [fast, merged, slow] = ["fast", "merged", "slow"].map((name) => createStream(name, name));
  for (const stream of [fast, merged, slow]) stream.clear("…");
  fast.tag("λ 0");
  slow.tag("λ 1");
  return { fast, merged, slow };
}

/** @param {State} now @param {any} data @param {any} controls @param {ReturnType<typeof createStreams>} streams */
function showState(now, data, controls, streams) {
  controls.question.show(now.question);
  for (const view of [controls.dial, controls.strip, controls.method, controls.tradeoff, controls.challenge])
    view.show(now);
  streams.merged.tag(titleOf(now, data));
}

/**
 * What the runner tells goes to the streams and the status line.
 * @param {any} model @param {any} controls @param {Record<string, any>} streams @param {any} status
 * @returns {import("./runner.js").Hooks}
 */
function answering(model, controls, streams, status) {
  return {
    onStatus(kind, detail) {
      status.show(kind, detail);
      if (kind === "failed") for (const stream of Object.values(streams)) stream.clear("no answer");
    },
    onStart: (who, question) => streams[who].start(question),
    onToken: (who, text) => streams[who].token(text),
    onAnswer(who, result) {
      streams[who].finish(result);
      if (who === "slow") for (const stream of Object.values(streams)) stream.longest(result.length);
      if (who !== "merged") return;
      const { answer, right } = gradeOf(result.text, goldOf(model.get().question));
      model.answered({ length: result.length, right });
      const grade = right === null ? "" : right ? ", right" : ", wrong";
      status.say(`The merged model answers ${answer ?? "nothing"}${grade}, with ${result.length} tokens.`);
    },
    onUnknown(words, question) {
      controls.question.remark(words, question);
      if (words.length) for (const stream of Object.values(streams)) stream.clear("not asked");
    },
  };
}

/** @param {any} controls @param {any} streams @param {any} status @returns {HTMLElement[]} */
function layout(controls, streams, status) {
  const answers = make(
    "section",
    { class: "streams", "aria-label": "answers" },
    streams.fast.node,
    streams.merged.node,
    streams.slow.node,
  );
  return [
    make("div", { class: "row wrap top" }, controls.question.caption, status.node),
    controls.question.node,
    make("div", {}, controls.dial.node, wordsOfTheDial(), answers),
    controls.trail.node,
    make(
      "div",
      { class: "lower" },
      make("div", {}, controls.strip.node, controls.method.node),
      controls.tradeoff.node,
      controls.challenge.node,
    ),
  ];
}

/**
 * Calls at the first touch, or when the page has come to rest after its first paint.
 * @param {HTMLElement} root @param {() => void} call
 */
function whenIdle(root, call) {
  const kinds = ["pointerdown", "keydown", "focusin"];
  const saving = /** @type {any} */ (navigator).connection?.saveData === true;
  let timer = 0;
  function go() {
    stop();
    call();
  }
  function stop() {
    clearTimeout(timer);
    kinds.forEach((kind) => root.removeEventListener(kind, go));
  }
  kinds.forEach((kind) => root.addEventListener(kind, go));
  const idle = window.requestIdleCallback ?? ((/** @type {() => void} */ then) => setTimeout(then, 1));
  if (!saving)
    requestAnimationFrame(() => {
      timer = window.setTimeout(() => idle(go), 300);
    });
  return stop;
}

/**
 * Ctrl+Z goes back where the component was touched last, but not where the reader types.
 * @param {HTMLElement} root @param {() => void} undo
 */
function listenForUndo(root, undo) {
  let inside = false;
  const onPress = (/** @type {Event} */ event) => {
    inside = event.composedPath().includes(root);
  };
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const here = event.composedPath().includes(root) || (inside && event.target === document.body);
    const typing = event.target instanceof Element && event.target.matches("textarea");
    if (!here || typing || event.shiftKey || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z")
      return;
    event.preventDefault();
    undo();
  };
  document.addEventListener("pointerdown", onPress);
  document.addEventListener("keydown", onKey);
  return () => {
    document.removeEventListener("pointerdown", onPress);
    document.removeEventListener("keydown", onKey);
  };
}
