// The chart: accuracy against tokens, measured, with the place of the merge at hand.

import { drawChart } from "../chart/chart.js";
import { make, showNumber } from "./dom.js";
import { presetsOf } from "./presets.js";
import { meanOf, sharedBy, withOne } from "./state.js";

/**
 * @typedef {{ lambda: number, accuracy: number, accuracy_low: number, accuracy_high: number, length: number,
 *   length_low: number, length_high: number, n: number }} Measured
 */

/**
 * Where λ lies on the measured line: between two measured points, linear. Null beyond the measured λ.
 * @param {Measured[]} frontier sorted by λ
 * @param {number} lambda
 * @returns {{ accuracy: number, length: number, measured: boolean } | null}
 */
export function alongFrontier(frontier, lambda) {
  const after = frontier.findIndex((point) => point.lambda >= lambda - 1e-9);
  if (after < 0 || lambda < frontier[0].lambda - 1e-9) return null;
  const high = frontier[after];
  if (Math.abs(high.lambda - lambda) < 1e-9) return { accuracy: high.accuracy, length: high.length, measured: true };
  const low = frontier[after - 1];
  const share = (lambda - low.lambda) / (high.lambda - low.lambda);
  const between = (/** @type {"accuracy" | "length"} */ name) => low[name] + share * (high[name] - low[name]);
  return { accuracy: between("accuracy"), length: between("length"), measured: false };
}

const LEAST = 40; // percent: where the axis begins, unless a merge measured here lies below

/**
 * @param {any} data live.json
 * @param {(next: (state: import("./state.js").State) => import("./state.js").State) => void} onGo a point was pressed:
 *   to its merge
 */
export function createTradeoff(data, onGo) {
  const frontier = [...data.frontier].sort((a, b) => a.lambda - b.lambda);
  const place = make("div", { class: "plot" });
  const said = make("p", { class: "hint", "aria-live": "off" });
  const node = make(
    "section",
    { class: "tradeoff" },
    make("h2", {}, "Accuracy against length"),
    make("p", { class: "lead" }, `Measured on ${frontier[0].n} problems for one λ from 0 to 1, with 95 % intervals.`),
    place,
    said,
  );
  /** @type {any} */
  let chart = null;
  /** @type {any[]} */
  let live = [];

  /** @type {any[]} */
  let kept = [];

  /** @param {string} name */
  function onPoint(name) {
    const own = kept.find((one) => one.name === name);
    const point = frontier.find((measured) => nameOfPoint(measured) === name);
    if (own) onGo((state) => ({ ...own.state, question: state.question }));
    else if (point) onGo((state) => straight(state, point.lambda, data.layers));
    else if (name === MEAN) onGo((state) => straight(state, meanOf(state, data.layers), data.layers));
    else if (name === data.challenge?.against) onGo((state) => acmOf(data)?.of(state) ?? state);
  }

  return {
    node,
    /** @param {import("./state.js").State} state */
    show(state) {
      const here = spotOf(state, frontier, data.layers);
      said.textContent = here.said;
      const spec = specOf(data, frontier, [...here.points, ...live]);
      if (chart) chart.update(spec);
      else chart = drawChart(place, spec, { onPoint });
    },
    /** Points measured here. @param {{ name: string, row: any, state: import("./state.js").State }[]} measured */
    measured(measured) {
      kept = measured;
      live = measured.map(({ name, row }) =>
        pointOf(name, row, "own", `${measuredHint(`${name}, measured here`, row)} Press to go back to it.`),
      );
    },
    destroy: () => chart?.close(),
  };
}

const MEAN = "its mean λ";

/** @param {any} data */
function acmOf(data) {
  return presetsOf(data).find(({ name }) => name === "acm");
}

/**
 * One λ of plain interpolation, of which the line is.
 * @param {import("./state.js").State} state @param {number} lambda @param {string[]} layers
 */
function straight(state, lambda, layers) {
  return withOne({ ...state, method: state.method === "ties" ? "interpolation" : state.method }, lambda, layers);
}

/**
 * The point of the merge at hand, and what is to be said of it.
 * @param {import("./state.js").State} state @param {Measured[]} frontier @param {string[]} layers
 */
function spotOf(state, frontier, layers) {
  const shared = sharedBy(state, layers);
  const lambda = shared ?? meanOf(state, layers);
  const at = alongFrontier(frontier, lambda);
  const name = `λ ${showNumber(lambda)}`;
  if (state.method === "ties")
    return { points: [], said: "TIES has no measured line here. Measure it in the challenge." };
  if (!at) return { points: [], said: `${name} lies outside what was measured, λ from 0 to 1.` };
  const known = shared !== null;
  const said = !known
    ? `These λ were not measured. The hollow point is one ${name}, their mean. Measure yours in the challenge.`
    : at.measured
      ? `${name}: measured.`
      : `${name}: between two measured points, not measured itself.`;
  const hint = hintOf(known ? name : `one ${name}, the mean`, at) + (known ? "" : " Press to go there.");
  const point = {
    name: known ? "this merge" : MEAN,
    x: at.length,
    y: at.accuracy,
    family: "here",
    marker: "circle",
    hint,
    label: true,
    hollow: !known,
    idle: known,
  };
  return { points: [point], said };
}

/** @param {string} name @param {{ accuracy: number, length: number }} at */
function hintOf(name, at) {
  return `${name}: ${at.accuracy.toFixed(1)} % right, ${Math.round(at.length)} tokens.`;
}

/** With 95 % intervals, and on how many problems. @param {string} name @param {any} row */
export function measuredHint(name, row) {
  const [accuracy, low, high] = [row.accuracy, row.accuracy_low, row.accuracy_high].map((value) => value.toFixed(1));
  const [length, least, most] = [row.length, row.length_low, row.length_high].map(Math.round);
  return `${name}: ${accuracy} % right (${low} to ${high}), ${length} tokens (${least} to ${most}), n = ${row.n}.`;
}

/** @param {Measured} point */
function nameOfPoint(point) {
  return `λ ${showNumber(point.lambda, 1)}`;
}

/** @param {string} name @param {any} row @param {string} family @param {string} hint */
function pointOf(name, row, family, hint, label = true) {
  return {
    name,
    x: row.length,
    y: row.accuracy,
    xLow: row.length_low,
    xHigh: row.length_high,
    yLow: row.accuracy_low,
    yHigh: row.accuracy_high,
    family,
    hint,
    label,
  };
}

/** @param {any} data @param {Measured[]} frontier @param {any[]} more @returns {import("../chart/spec.js").Spec} */
function specOf(data, frontier, more) {
  const most = Math.max(...frontier.map((point) => point.length_high), ...more.map((point) => point.xHigh ?? point.x));
  const least = Math.min(LEAST, ...more.map((point) => point.yLow ?? point.y));
  const points = frontier.map((point) =>
    pointOf(
      nameOfPoint(point),
      point,
      "frontier",
      `${measuredHint(nameOfPoint(point), point)} Press to go there.`,
      false,
    ),
  );
  const against = (data.methods ?? [])
    .filter((/** @type {any} */ row) => row.method === data.challenge?.against)
    .map((/** @type {any} */ row) => {
      const way = acmOf(data) ? " Press to go to ACM." : "";
      return { ...pointOf(row.method, row, "acm", measuredHint(row.method, row) + way), idle: !way };
    });
  return {
    label: "accuracy against tokens: the line of one λ from fast to slow, and the merge at hand",
    height: 320,
    x: { label: "tokens an answer", range: [0, Math.ceil(most / 20) * 20], better: "left" },
    y: { label: "right, %", range: [Math.floor(least / 20) * 20, 100], better: "up", percent: true },
    lines: [{ name: "one λ", points: frontier.map((point) => [point.length, point.accuracy]), family: "frontier" }],
    bands: [
      {
        name: "95 %",
        points: frontier.map((point) => [point.length, point.accuracy_low, point.accuracy_high]),
        family: "frontier",
      },
    ],
    points: [...points, ...against, ...more],
  };
}
