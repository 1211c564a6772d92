// Paired differences of two models on the same problems, with bootstrap intervals.

import { seeded } from "./problems.js";

const DRAWS = 2000;
const SEED = 2505;

/**
 * The p-quantile of sorted numbers, linear between them.
 * @param {ArrayLike<number>} sorted
 * @param {number} p
 */
export function quantile(sorted, p) {
  const place = p * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/** @param {ArrayLike<number>} values */
export function mean(values) {
  let sum = 0;
  for (let k = 0; k < values.length; k += 1) sum += values[k];
  return sum / values.length;
}

/**
 * The mean with its 95 % interval: percentile bootstrap, items drawn with replacement.
 * @param {number[]} values one number an item
 * @returns {{ mean: number, low: number, high: number }}
 */
export function bootstrapInterval(values, draws = DRAWS, seed = SEED) {
  const random = seeded(seed);
  const means = new Float64Array(draws);
  for (let draw = 0; draw < draws; draw += 1) {
    let sum = 0;
    for (let k = 0; k < values.length; k += 1) sum += values[Math.floor(random() * values.length)];
    means[draw] = sum / values.length;
  }
  means.sort();
  return { mean: mean(values), low: quantile(means, 0.025), high: quantile(means, 0.975) };
}

/**
 * Length reduction against slow, percent: mean over tasks of each task's. 95 % interval: items drawn within tasks.
 * @param {{ length: number }[]} rows @param {{ task: string, slow: number }[]} items of the rows
 * @returns {{ mean: number, low: number, high: number }}
 */
export function reductionInterval(rows, items, draws = DRAWS, seed = SEED) {
  const random = seeded(seed);
  const places = new Map(items.map(({ task }) => [task, /** @type {number[]} */ ([])]));
  items.forEach(({ task }, k) => places.get(task)?.push(k));
  /** @param {(own: number[]) => number[]} chosen */
  const reduction = (chosen) =>
    mean(
      [...places.values()].map((own) => {
        const drawn = chosen(own);
        return 100 * (1 - mean(drawn.map((k) => rows[k].length)) / mean(drawn.map((k) => items[k].slow)));
      }),
    );
  const again = (/** @type {number[]} */ own) => own.map(() => own[Math.floor(random() * own.length)]);
  const found = Float64Array.from({ length: draws }, () => reduction(again)).sort();
  return { mean: reduction((own) => own), low: quantile(found, 0.025), high: quantile(found, 0.975) };
}

/**
 * Wilson's 95 % interval of a share, in percent.
 * @param {number} right @param {number} n
 */
export function wilson(right, n) {
  const z = 1.959963984540054;
  const share = right / n;
  const middle = (share + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  return { mean: 100 * share, low: Math.max(0, 100 * (middle - half)), high: Math.min(100, 100 * (middle + half)) };
}

/**
 * @typedef {{ correct: boolean, length: number }} Graded
 * @typedef {{ mean: number, low: number, high: number }} Interval
 * @typedef {{ outcome: "won" | "lost" | "open", accuracy: Interval, length: Interval, why: string }} Verdict
 */

/**
 * Mine less theirs on the same items. Accuracy in percentage points, length in tokens.
 * Won: shorter with the whole interval, and right at least as often. Lost: shown to be right less often, or longer.
 * @param {Graded[]} mine
 * @param {Graded[]} theirs
 * @returns {Verdict}
 */
export function judge(mine, theirs) {
  const accuracy = bootstrapInterval(mine.map((row, k) => 100 * (Number(row.correct) - Number(theirs[k].correct))));
  const length = bootstrapInterval(mine.map((row, k) => row.length - theirs[k].length));
  const shorter = length.high < 0;
  if (accuracy.high < 0) return { outcome: "lost", accuracy, length, why: "It is right less often." };
  if (length.low > 0) return { outcome: "lost", accuracy, length, why: "It is longer." };
  if (shorter && accuracy.mean >= 0) {
    return { outcome: "won", accuracy, length, why: "It is shorter, and was right at least as often." };
  }
  const why = shorter
    ? "It is shorter, but was right less often here; these problems are too few to tell whether it is."
    : "The interval of the lengths contains 0.";
  return { outcome: "open", accuracy, length, why };
}
