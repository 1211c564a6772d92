import assert from "node:assert/strict";
import { test } from "node:test";
import { firstState, isPreset, presetsOf } from "../live/presets.js";
import {
  coefficientOf,
  fromHash,
  HIGHEST,
  inMode,
  LOWEST,
  normalised,
  sharedBy,
  tidy,
  toHash,
  withOne,
  withSome,
} from "../live/state.js";
import { alongFrontier, measuredHint, specOf, spotOf } from "../live/tradeoffspec.js";
import { data, half, layers, near, start } from "./made.js";

test("a link holds the state; what does not belong is dropped", () => {
  const split = withSome(inMode(start, "part", layers), { "2.mlp": -0.125, embed: 1.2 }, layers);
  for (const state of [
    start,
    withSome(start, { 4: 0.1234 }, layers),
    split,
    { ...start, method: "ties", density: 0.35 },
  ]) {
    assert.deepEqual(normalised(fromHash(toHash(state, layers), layers), layers, half()), state);
  }
  assert.equal(fromHash("", layers), null);
  assert.equal(fromHash("#section-2", layers), null);
  const odd = normalised(fromHash("#l=0.5&method=evil&density=9&q=", layers), layers, half("fallback"));
  assert.deepEqual(odd, { ...withOne(start, 0.5, layers), density: 1, question: "fallback" });
  const far = normalised(fromHash(`#layers=${Array(9).fill("1e9").join("_")}`, layers), layers, half("x"));
  assert.ok(Object.values(far.coefficients).every((value) => value === HIGHEST));
  assert.equal(normalised({ coefficients: { 0: -7 }, mode: "layer" }, layers, half("x")).coefficients[0], LOWEST);
  assert.equal(normalised({ question: "y".repeat(1000) }, layers, half("x")).question.length, 400);
});

test("a link whose merge is missing or cannot be read opens what the page opens with, its problem filled in", () => {
  const first = firstState(data, "the first problem");
  const acm = data.presets.acm.coefficients;
  assert.ok(layers.every((/** @type {string} */ layer) => first.coefficients[layer] === tidy(acm[layer])));
  for (const hash of [
    "#q=a",
    "#q=a&method=ties",
    "#l=NaN&q=a",
    "#l=&q=a",
    "#layers=1_2&q=a",
    `#layers=${"x_".repeat(8)}1&q=a`,
  ])
    assert.deepEqual(normalised(fromHash(hash, layers), layers, first), { ...first, question: "a" }, hash);
  assert.deepEqual(normalised(fromHash("", layers), layers, first), first);
  assert.equal(fromHash("#layers=1_2", layers), null);
  const average = { ...data, presets: {} };
  assert.equal(sharedBy(firstState(average, ""), layers), 0.5);
});

test("presets are known again, also after a link", () => {
  const presets = presetsOf(data);
  assert.deepEqual(
    presets.map((preset) => preset.name),
    ["fast", "average", "acm", "noise", "search", "ramp"],
  );
  for (const preset of presets) {
    const state = preset.of({ ...start, method: "ties" });
    const back = normalised(fromHash(toHash(state, layers), layers), layers, half());
    assert.deepEqual(
      presets.filter((other) => isPreset(back, other, layers)).map((other) => other.name),
      [preset.name],
    );
    assert.equal(isPreset({ ...back, method: "ties" }, preset, layers), false);
  }
  assert.equal(coefficientOf(presets[5].of(start), "embed"), 0);
  assert.equal(coefficientOf(presets[5].of(start), "lm_head"), 1);
});

test("a point travels along the measured line, and says where it was measured", () => {
  const { frontier } = data;
  const at = (/** @type {number} */ lambda) => alongFrontier(frontier, lambda);
  for (const point of frontier)
    assert.deepEqual(at(point.lambda), {
      accuracy: point.accuracy,
      length: point.length,
      reduction: point.reduction,
      measured: true,
    });
  const [low, high] = [frontier[2], frontier[3]];
  const quarter = at(low.lambda + (high.lambda - low.lambda) / 4);
  assert.equal(quarter?.measured, false);
  near(Number(quarter?.length), low.length + (high.length - low.length) / 4, 1e-6);
  near(Number(quarter?.reduction), low.reduction + (high.reduction - low.reduction) / 4, 1e-6);
  assert.equal(at(1.1), null);
  assert.equal(at(-0.1), null);
});

test("a hint tells accuracy and tokens with intervals and n", () => {
  const row = data.frontier.find((/** @type {any} */ { lambda }) => lambda === 0.3);
  const [low, high] = [row.accuracy_low.toFixed(1), row.accuracy_high.toFixed(1)];
  const said = measuredHint("λ 0.3", row);
  assert.ok(said.includes(`% right (${low} to ${high})`) && said.endsWith(`n = ${row.n}.`), said);
});

test("the chart shows length reduction, better to the right, and its hints tell tokens", () => {
  const { frontier } = data;
  const [fast, slow] = [frontier[0], frontier[frontier.length - 1]];
  assert.equal(slow.reduction, 0);
  const spec = specOf(data, frontier, spotOf(start, data, frontier).points);
  assert.deepEqual([spec.x.better, spec.y.better, spec.x.percent], ["right", "up", true]);
  const points = spec.points ?? [];
  for (const { x, xLow, xHigh } of points) {
    assert.ok(x >= spec.x.range[0] && x <= spec.x.range[1]);
    assert.ok(xLow === undefined || (Number(xLow) <= x && x <= Number(xHigh)));
  }
  const hint = String(points[0].hint);
  assert.ok(
    hint.includes(`${Math.round(fast.length)} tokens (`) &&
      hint.includes(`${Math.round(fast.reduction)} % fewer than slow`),
    hint,
  );
  assert.deepEqual(
    spec.legend?.map(({ label }) => label),
    ["one λ for all layers", "95 % interval", "this merge", "ACM-TA"],
  );
  const longer = specOf(data, frontier, [{ name: "own", family: "own", x: -12, y: 20 }]);
  assert.deepEqual([longer.x.range[0], longer.y.range[0]], [-20, 20]);
});

test("ACM's own merge stands where it was measured", () => {
  const { points, said } = spotOf(firstState(data, ""), data, data.frontier);
  const row = data.methods.find((/** @type {any} */ { method }) => method === "ACM-TA");
  assert.deepEqual([points[0].y, points[0].hollow], [row.accuracy, false]);
  assert.ok(said.includes("the orange point, ACM-TA"));
  const painted = withSome(firstState(data, ""), { 2: 0.9 }, layers);
  assert.equal(spotOf(painted, data, data.frontier).points[0].hollow, true);
});

test("a link without a problem leaves the problem to the page", () => {
  assert.equal("question" in /** @type {any} */ (fromHash("#l=0.4", layers)), false);
  assert.equal(fromHash("#l=0.4&q=a", layers)?.question, "a");
});
