// Scales, ticks and ranges of a chart: plain functions of numbers.

/** @typedef {[number, number]} Range */

/**
 * The straight way from a range of values to a range of pixels.
 * @param {Range} values @param {Range} pixels @returns {(value: number) => number}
 */
export function linearScale([from, to], [start, end]) {
  const factor = from === to ? 0 : (end - start) / (to - from);
  return (value) => start + (value - from) * factor;
}

/**
 * The step (1, 2 or 5 times a power of ten) that cuts a range into at most so many parts.
 * @param {Range} range @param {number} count
 */
export function tickStep([low, high], count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return 0;
  const power = 10 ** Math.floor(Math.log10(rough));
  const times = [1, 2, 5, 10].find((n) => n * power >= rough * (1 - 1e-9)) ?? 10;
  return times * power;
}

/**
 * Round numbers within a range, at most count + 1 of them.
 * @param {Range} range @param {number} count @returns {number[]}
 */
export function tickValues(range, count) {
  const step = tickStep(range, count);
  if (!step) return [range[0]];
  const first = Math.ceil(range[0] / step - 1e-9);
  const last = Math.floor(range[1] / step + 1e-9);
  if (last < first) return tickValues(range, 2 * count);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/**
 * A tick as text, with as many decimals as the step needs.
 * @param {number} value @param {number} step @param {boolean} percent
 */
export function tickText(value, step, percent) {
  const decimals = step > 0 ? Math.max(0, Math.min(12, -Math.floor(Math.log10(step) + 1e-9))) : 0;
  const text = Math.abs(value)
    .toFixed(decimals)
    .replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ",");
  return (value < 0 ? "−" : "") + text + (percent ? " %" : "");
}

/**
 * A range that is zoomed about a value, moved by a share of its span, and kept within half a span of its home.
 * @param {Range} range @param {Range} home @param {{ factor?: number, about?: number, by?: number }} move
 * @returns {Range}
 */
export function movedRange(range, home, { factor = 1, about, by = 0 }) {
  const whole = home[1] - home[0];
  const span = Math.min(1.5 * whole, Math.max(whole / 50, (range[1] - range[0]) * factor));
  const fixed = about ?? (range[0] + range[1]) / 2;
  const share = range[1] === range[0] ? 0.5 : (fixed - range[0]) / (range[1] - range[0]);
  const low = fixed - share * span + by * span;
  const kept = Math.max(home[0] - whole / 2, Math.min(home[1] + whole / 2 - span, low));
  return [kept, kept + span];
}
