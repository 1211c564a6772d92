// The controls of the component, wired to its state.

import { createChallenge } from "./challenge.js";
import { createDial } from "./dial.js";
import { createMethod } from "./method.js";
import { firstState, isPreset, presetsOf } from "./presets.js";
import { createQuestion } from "./question.js";
import { inMode, mergeKey, withOne, withSome } from "./state.js";
import { createStrip } from "./strip.js";
import { createTradeoff } from "./tradeoff.js";
import { createTrailView, titleOf } from "./trailview.js";

/**
 * @typedef {import("./state.js").State} State
 * @param {any} data live.json
 * @param {() => { get: () => State, change: (next: State) => void, settle: () => void, undo: () => void }} model
 * @param {() => any} runner
 */
export function createControls(data, model, runner) {
  const { layers } = data;
  /** A change takes along what was typed just before. @param {(state: State) => State} next */
  const to = (next) => {
    const typed = question.takePending();
    model().change(next(typed ? { ...model().get(), question: typed } : model().get()));
  };
  const settle = () => model().settle();
  const jump = (/** @type {(state: State) => State} */ next) => {
    to(next);
    settle();
  };
  const question = createQuestion((text) => to((state) => ({ ...state, question: text })));
  const dial = createDial(data, {
    onValue: (value) => to((state) => withOne(state, value, layers)),
    onSettled: settle,
    onPreset: (preset) => jump(preset.of),
    onReset: () => jump((state) => firstState(data, state.question)),
    onUndo: () => model().undo(),
    busy: () => runner().busy(),
  });
  const strip = createStrip(layers, {
    onPaint: (changes) => to((state) => withSome(state, changes, layers)),
    onSettled: settle,
    onMode: (mode) => jump((state) => inMode(state, mode, layers)),
  });
  const method = createMethod({
    onMethod: (name) => jump((state) => ({ ...state, method: name })),
    onDensity: (density) => to((state) => ({ ...state, density })),
    onSettled: settle,
  });
  const trail = createTrailView(data, (tried) => jump(() => tried.state));
  return { question, dial, strip, method, trail, ...createMeasuring(data, model, runner, { pause: dial.pause, jump }) };
}

/**
 * Chart and challenge: what is measured here becomes a point of the chart.
 * @param {any} data @param {() => any} model @param {() => any} runner
 * @param {{ pause: () => void, jump: (next: (state: State) => State) => void }} moves pause: stops the motion
 */
function createMeasuring(data, model, runner, { pause, jump }) {
  const tradeoff = createTradeoff(data, jump);
  const acm = presetsOf(data).find((preset) => preset.name === "acm");
  /**
   * By merge, so that the same merge has one point.
   * @type {Map<string, { title: string, name: string, row: any, state: State }>}
   */
  const measured = new Map();
  const challenge = createChallenge(data, {
    measure(items, options) {
      pause();
      return runner().measure(model().get(), items, options);
    },
    nameOf: () => titleOf(model().get(), data),
    keyOf: () => mergeKey(model().get(), data.layers),
    isAgainst: () => !!acm && isPreset(model().get(), acm, data.layers),
    onMeasured(name, row) {
      const key = mergeKey(model().get(), data.layers);
      const others = [...measured].filter(([other, point]) => other !== key && point.title === name).length;
      measured.set(key, { title: name, name: others ? `${name} (${others + 1})` : name, row, state: model().get() });
      tradeoff.measured([...measured.values()]);
      tradeoff.show(model().get());
    },
  });
  return { tradeoff, challenge };
}
