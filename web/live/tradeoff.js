// The chart: accuracy against length reduction, measured, with the place of the merge at hand.

import { drawChart } from "../chart/chart.js";
import { make } from "./dom.js";
import { presetsOf } from "./presets.js";
import { meanOf, mergeKey, withOne } from "./state.js";
import { MEAN, measuredHint, nameOfPoint, pointOf, recordedOf, specOf, spotOf } from "./tradeoffspec.js";
import { wordsOfTheChart } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {{ name: string, row: any, state: State }} Own a merge measured here */

/**
 * @param {any} data live.json
 * @param {(next: (state: State) => State) => void} onGo a point was pressed: to its merge
 */
export function createTradeoff(data, onGo) {
  const frontier = [...data.frontier].sort((a, b) => a.lambda - b.lambda);
  const place = make("div", { class: "plot" });
  const said = make("p", { class: "hint", "aria-live": "off" });
  /** @type {any} */
  let chart = null;
  /** @type {Own[]} */
  let kept = [];
  return {
    node: frameWith(data, frontier, place, said),
    /** @param {State} state */
    show(state) {
      const here = spotOf(state, data, frontier);
      const own = kept.find((one) => mergeKey(one.state, data.layers) === mergeKey(state, data.layers));
      said.textContent = own ? `The star is ${own.name}, measured here on ${own.row.n} problems.` : here.said;
      const spec = specOf(data, frontier, [...here.points, ...kept.map(ownPoint)]);
      if (chart) chart.update(spec);
      else chart = drawChart(place, spec, { onPoint: (/** @type {string} */ name) => goTo(name, data, kept, onGo) });
    },
    /** @param {Own[]} measured */
    measured(measured) {
      kept = measured;
    },
    destroy: () => chart?.close(),
  };
}

/** @param {any} data @param {any[]} frontier @param {HTMLElement} place @param {HTMLElement} said */
function frameWith(data, frontier, place, said) {
  const slow = frontier[frontier.length - 1];
  return make(
    "section",
    { class: "tradeoff" },
    make("h2", {}, "Accuracy against length"),
    make("p", { class: "lead" }, `Measured on ${slow.n} problems for one λ from 0 to 1, with 95 % intervals.`),
    place,
    said,
    wordsOfTheChart(data.challenge?.against ?? "ACM", slow.length),
  );
}

/** @param {Own} own */
function ownPoint({ name, row }) {
  const hint = `${measuredHint(`${name}, measured here`, row)} Press to go back to it.`;
  return pointOf(name, row, "own", hint);
}

/**
 * Goes to the merge of a point.
 * @param {string} name @param {any} data @param {Own[]} kept @param {(next: (state: State) => State) => void} onGo
 */
function goTo(name, data, kept, onGo) {
  const own = kept.find((one) => one.name === name);
  const point = data.frontier.find((/** @type {any} */ measured) => nameOfPoint(measured) === name);
  const acm = presetsOf(data).find((preset) => preset.name === "acm");
  if (own) onGo((state) => ({ ...own.state, question: state.question }));
  else if (point) onGo((state) => straight(state, point.lambda, data.layers));
  else if (name === MEAN) onGo((state) => straight(state, meanOf(state, data.layers), data.layers));
  else if (name === recordedOf(data)?.method) onGo((state) => acm?.of(state) ?? state);
}

/**
 * One λ of plain interpolation, of which the line is.
 * @param {State} state @param {number} lambda @param {string[]} layers
 */
function straight(state, lambda, layers) {
  return withOne({ ...state, method: state.method === "ties" ? "interpolation" : state.method }, lambda, layers);
}
