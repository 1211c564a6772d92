// What the chart of accuracy against length reduction is told: points, line, band, legend.

import { showNumber } from "./dom.js";
import { isPreset, presetsOf } from "./presets.js";
import { meanOf, sharedBy } from "./state.js";

/**
 * @typedef {{ lambda: number, accuracy: number, accuracy_low: number, accuracy_high: number, length: number,
 *   length_low: number, length_high: number, reduction: number, reduction_low: number, reduction_high: number,
 *   n: number }} Measured reduction: of length against slow, percent, mean over tasks
 * @typedef {{ accuracy: number, length: number, reduction: number }} Place
 * @typedef {import("./state.js").State} State
 */

export const MEAN = "its mean λ";
const AT_HAND = "this merge";
const LEAST = 40; // percent right: where the axis begins, unless a merge measured here lies below
const ROUND = 10; // percent shorter: the axis ends at multiples of it

/**
 * Where λ lies on the measured line: between two measured points, linear. Null beyond the measured λ.
 * @param {Measured[]} frontier sorted by λ
 * @param {number} lambda
 * @returns {Place & { measured: boolean } | null}
 */
export function alongFrontier(frontier, lambda) {
  const after = frontier.findIndex((point) => point.lambda >= lambda - 1e-9);
  if (after < 0 || lambda < frontier[0].lambda - 1e-9) return null;
  const high = frontier[after];
  const { accuracy, length, reduction } = high;
  if (Math.abs(high.lambda - lambda) < 1e-9) return { accuracy, length, reduction, measured: true };
  const low = frontier[after - 1];
  const share = (lambda - low.lambda) / (high.lambda - low.lambda);
  const between = (/** @type {keyof Place} */ name) => low[name] + share * (high[name] - low[name]);
  return { accuracy: between("accuracy"), length: between("length"), reduction: between("reduction"), measured: false };
}

/** Tokens, and how many fewer than slow. @param {Place} place @param {string} more */
function tokensText({ length, reduction: exact }, more = "") {
  const reduction = Math.round(exact);
  const than =
    reduction > 0 ? `, ${reduction} % fewer than slow` : reduction < 0 ? `, ${-reduction} % more than slow` : "";
  return `${Math.round(length)} tokens${more}${than}`;
}

/** With 95 % intervals, and on how many problems. @param {string} name @param {any} row */
export function measuredHint(name, row) {
  const [accuracy, low, high] = [row.accuracy, row.accuracy_low, row.accuracy_high].map((value) => value.toFixed(1));
  const [least, most] = [row.length_low, row.length_high].map(Math.round);
  const tokens = tokensText(row, ` (${least} to ${most})`);
  return `${name}: ${accuracy} % right (${low} to ${high}), ${tokens}, n = ${row.n}.`;
}

/** The recorded merge that the challenge is against, if it was measured. @param {any} data live.json */
export function recordedOf(data) {
  return (data.methods ?? []).find((/** @type {any} */ row) => row.method === data.challenge?.against);
}

/**
 * The point of the merge at hand, and what is to be said of it.
 * @param {State} state @param {any} data @param {Measured[]} frontier
 */
export function spotOf(state, data, frontier) {
  const shared = sharedBy(state, data.layers);
  const lambda = shared ?? meanOf(state, data.layers);
  const name = `λ ${showNumber(lambda)}`;
  const acm = presetsOf(data).find((preset) => preset.name === "acm");
  const recorded = recordedOf(data);
  if (acm && recorded && isPreset(state, acm, data.layers)) {
    const hint = `This merge: ${measuredHint(recorded.method, recorded)}`;
    return {
      points: [spot(recorded, hint, true)],
      said: `ACM’s λ were measured: they are the orange point, ${recorded.method}.`,
    };
  }
  if (state.method === "ties")
    return { points: [], said: "TIES has no measured line here. Measure it in the challenge." };
  const at = alongFrontier(frontier, lambda);
  if (!at) return { points: [], said: `${name} lies outside what was measured, λ from 0 to 1.` };
  const known = shared !== null;
  const called = known ? name : `one ${name}, the mean`;
  const hint = `${called}: ${at.accuracy.toFixed(1)} % right, ${tokensText(at)}.`;
  return {
    points: [spot(at, hint + (known ? "" : " Press to go there."), known)],
    said: sayingOfSpot(name, known, at.measured),
  };
}

/** @param {string} name @param {boolean} known @param {boolean} measured */
function sayingOfSpot(name, known, measured) {
  if (!known)
    return `These λ were not measured. The hollow point is one ${name}, their mean. Measure yours in the challenge.`;
  return measured ? `${name}: measured.` : `${name}: between two measured points, not measured itself.`;
}

/**
 * @param {Place} at @param {string} hint @param {boolean} known
 */
function spot(at, hint, known) {
  return {
    name: known ? AT_HAND : MEAN,
    x: at.reduction,
    y: at.accuracy,
    family: "here",
    marker: "circle",
    hint,
    label: true,
    hollow: !known,
    idle: known,
  };
}

/** @param {Measured} point */
export function nameOfPoint(point) {
  return `λ ${showNumber(point.lambda, 1)}`;
}

/**
 * @param {string} name @param {any} row @param {string} family @param {string} hint
 */
export function pointOf(name, row, family, hint) {
  return {
    name,
    x: row.reduction,
    y: row.accuracy,
    xLow: row.reduction_low,
    xHigh: row.reduction_high,
    yLow: row.accuracy_low,
    yHigh: row.accuracy_high,
    family,
    hint,
    label: family !== "frontier",
  };
}

/** @param {any} data @param {Measured[]} frontier @param {any[]} more @returns {import("../chart/spec.js").Spec} */
export function specOf(data, frontier, more) {
  const swept = frontier.map((point) => {
    const hint = `${measuredHint(nameOfPoint(point), point)} Press to go there.`;
    return pointOf(nameOfPoint(point), point, "frontier", hint);
  });
  const recorded = recordedOf(data);
  const way = "acm" in data.presets ? " Press to go to ACM." : "";
  const against = recorded
    ? [
        {
          ...pointOf(recorded.method, recorded, "acm", measuredHint(recorded.method, recorded) + way),
          idle: !way,
        },
      ]
    : [];
  const points = [...swept, ...against, ...more];
  const across = [0, ...points.map(({ x }) => x)];
  const least = Math.min(LEAST, ...more.map((point) => point.yLow ?? point.y));
  const rounded = (/** @type {number} */ value, /** @type {number} */ step) => Math.floor(value / step) * step;
  return {
    label: "accuracy against length reduction: the line of one λ from slow to fast, and the merge at hand",
    height: 320,
    x: {
      label: "fewer tokens than slow",
      range: [rounded(Math.min(...across), ROUND), -rounded(-Math.max(...across), ROUND)],
      better: "right",
      percent: true,
    },
    y: { label: "right answers", range: [rounded(least, 20), 100], better: "up", percent: true },
    ...lineOf(frontier),
    points,
    legend: legendOf(points, recorded?.method),
  };
}

/** The line of one λ, and its band. @param {Measured[]} frontier */
function lineOf(frontier) {
  /** @type {[number, number][]} */
  const line = frontier.map((point) => [point.reduction, point.accuracy]);
  /** @type {[number, number, number][]} */
  const band = frontier.map((point) => [point.reduction, point.accuracy_low, point.accuracy_high]);
  return {
    lines: [{ name: "one λ", points: line, family: "frontier" }],
    bands: [{ name: "95 %", points: band, family: "frontier" }],
  };
}

/** What each mark is, of those that are shown. @param {any[]} points @param {string} against */
function legendOf(points, against) {
  const shown = new Set(points.map(({ family }) => family));
  const hollow = points.some((point) => point.hollow);
  /** @type {import("../chart/spec.js").Key[]} */
  const keys = [
    { family: "frontier", kind: "line", label: "one λ for all layers" },
    { family: "frontier", kind: "band", label: "95 % interval" },
    { family: "here", marker: "circle", label: hollow ? MEAN : AT_HAND, hollow },
    { family: "acm", label: against },
    { family: "own", label: "measured here" },
  ];
  return keys.filter(({ family }) => shown.has(family));
}
