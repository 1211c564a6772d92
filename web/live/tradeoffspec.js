// What the chart of accuracy against length reduction is told: points, line, band, legend.

import { showNumber } from "./dom.js";
import { isPreset, presetsOf } from "./presets.js";
import { meanOf, sharedBy } from "./state.js";

/**
 * @typedef {{ lambda: number, accuracy: number, accuracy_low: number, accuracy_high: number, length: number,
 *   length_low: number, length_high: number, n: number }} Measured
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

/**
 * Length reduction in percent of slow's mean length, the last of the line.
 * @param {number} length mean tokens @param {Measured[]} frontier sorted by λ
 */
export function reductionOf(length, frontier) {
  return 100 * (1 - length / frontier[frontier.length - 1].length);
}

/** Tokens, and how many fewer than slow. @param {number} length @param {Measured[]} frontier @param {string} more */
function tokensText(length, frontier, more = "") {
  const reduction = Math.round(reductionOf(length, frontier));
  const than =
    reduction > 0 ? `, ${reduction} % fewer than slow` : reduction < 0 ? `, ${-reduction} % more than slow` : "";
  return `${Math.round(length)} tokens${more}${than}`;
}

/** With 95 % intervals, and on how many problems. @param {string} name @param {any} row @param {Measured[]} frontier */
export function measuredHint(name, row, frontier) {
  const [accuracy, low, high] = [row.accuracy, row.accuracy_low, row.accuracy_high].map((value) => value.toFixed(1));
  const [least, most] = [row.length_low, row.length_high].map(Math.round);
  const tokens = tokensText(row.length, frontier, ` (${least} to ${most})`);
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
    const hint = `This merge: ${measuredHint(recorded.method, recorded, frontier)}`;
    return { points: [spot(recorded, frontier, hint, true)], said: `ACM’s λ: measured, the point ${recorded.method}.` };
  }
  if (state.method === "ties")
    return { points: [], said: "TIES has no measured line here. Measure it in the challenge." };
  const at = alongFrontier(frontier, lambda);
  if (!at) return { points: [], said: `${name} lies outside what was measured, λ from 0 to 1.` };
  const known = shared !== null;
  const called = known ? name : `one ${name}, the mean`;
  const hint = `${called}: ${at.accuracy.toFixed(1)} % right, ${tokensText(at.length, frontier)}.`;
  return {
    points: [spot(at, frontier, hint + (known ? "" : " Press to go there."), known)],
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
 * @param {{ accuracy: number, length: number }} at @param {Measured[]} frontier @param {string} hint
 * @param {boolean} known
 */
function spot(at, frontier, hint, known) {
  return {
    name: known ? AT_HAND : MEAN,
    x: reductionOf(at.length, frontier),
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
 * @param {string} name @param {any} row @param {string} family @param {string} hint @param {Measured[]} frontier
 */
export function pointOf(name, row, family, hint, frontier) {
  return {
    name,
    x: reductionOf(row.length, frontier),
    y: row.accuracy,
    xLow: reductionOf(row.length_high, frontier),
    xHigh: reductionOf(row.length_low, frontier),
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
    const hint = `${measuredHint(nameOfPoint(point), point, frontier)} Press to go there.`;
    return pointOf(nameOfPoint(point), point, "frontier", hint, frontier);
  });
  const recorded = recordedOf(data);
  const way = "acm" in data.presets ? " Press to go to ACM." : "";
  const against = recorded
    ? [
        {
          ...pointOf(
            recorded.method,
            recorded,
            "acm",
            measuredHint(recorded.method, recorded, frontier) + way,
            frontier,
          ),
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
  const x = (/** @type {Measured} */ point) => reductionOf(point.length, frontier);
  /** @type {[number, number][]} */
  const line = frontier.map((point) => [x(point), point.accuracy]);
  /** @type {[number, number, number][]} */
  const band = frontier.map((point) => [x(point), point.accuracy_low, point.accuracy_high]);
  return {
    lines: [{ name: "one λ", points: line, family: "frontier" }],
    bands: [{ name: "95 %", points: band, family: "frontier" }],
  };
}

/** What each mark is, of those that are shown. @param {any[]} points @param {string} against */
function legendOf(points, against) {
  const shown = new Set(points.map(({ family }) => family));
  /** @type {import("../chart/spec.js").Key[]} */
  const keys = [
    { family: "frontier", kind: "line", label: "one λ for all layers" },
    { family: "frontier", kind: "band", label: "95 % interval" },
    { family: "here", marker: "circle", label: points.some(({ hollow }) => hollow) ? MEAN : AT_HAND },
    { family: "acm", label: against },
    { family: "own", label: "measured here" },
  ];
  return keys.filter(({ family }) => shown.has(family));
}
