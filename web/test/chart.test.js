// @ts-nocheck: pairs are plain arrays here
// The parts of the chart that need no browser: scales, ticks, zoom, where names go, piles.
import assert from "node:assert/strict";
import { test } from "node:test";

import { alongLine, boxAround, boxesOverlap, pileOf, placeLabels } from "../chart/labels.js";
import { linearScale, movedRange, tickStep, tickText, tickValues } from "../chart/scale.js";
import { frameOf, homeView, markerPath, withinFrame } from "../chart/spec.js";
import { keyMove, movedView } from "../chart/zoom.js";

/** Numbers from a seed, between 0 and 1 (Lehmer's generator). @param {number} seed */
function seeded(seed) {
  let state = seed;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

test("a scale sends the ends of a range to the ends of the other, and a range without width to its start", () => {
  const scale = linearScale([2, 4], [100, 0]);
  assert.deepEqual([scale(2), scale(3), scale(4), scale(5)], [100, 50, 0, -50]);
  assert.equal(linearScale([1, 1], [10, 20])(1), 10);
});

test("ticks are round, lie within the range and are at most one more than asked for", () => {
  const random = seeded(7);
  for (let i = 0; i < 500; i += 1) {
    const low = (random() - 0.5) * 10 ** Math.floor(random() * 3);
    const range = [low, low + random() * 10 ** (Math.floor(random() * 6) - 2) + 1e-2];
    const count = 2 + Math.floor(random() * 9);
    const ticks = tickValues(range, count);
    assert.ok(ticks.length <= count + 1 && ticks.length >= 1, `${ticks}`);
    const slack = 1e-9 * (range[1] - range[0] + Math.abs(low));
    assert.ok(ticks.every((t) => t >= range[0] - slack && t <= range[1] + slack));
    if (ticks.length < 2) continue; // one tick has no step to see
    const step = Number((ticks[1] - ticks[0]).toPrecision(4));
    const leading = Number(step.toExponential().split("e")[0]);
    assert.ok([1, 2, 5].includes(leading), `${range}: ${ticks}`);
    const whole = ticks.every((t) => Math.abs(t / step - Math.round(t / step)) < 1e-4);
    assert.ok(whole, `${range}: ${ticks}`);
  }
  assert.deepEqual(tickValues([0, 1], 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(tickValues([3, 3], 5), [3]);
});

test("ticks read well", () => {
  assert.equal(tickText(0.6000000001, 0.2, false), "0.6");
  assert.equal(tickText(-12000, 2000, false), "−12,000");
  assert.equal(tickText(40, 20, true), "40 %");
  assert.equal(tickText(0.1234, 0.0005, false), "0.1234");
});

test("a zoom keeps the value under the pointer, and no move leads far from home", () => {
  const home = [0, 100];
  const near = movedRange(home, home, { factor: 0.5, about: 20 });
  assert.deepEqual(near, [10, 60]);
  assert.deepEqual(movedRange([0, 100], home, { factor: 0.0001 }), [49, 51]);
  const random = seeded(3);
  let range = home;
  for (let i = 0; i < 1000; i += 1) {
    range = movedRange(range, home, { factor: 0.4 + random() * 1.5, about: random() * 100, by: random() * 4 - 2 });
    assert.ok(range[0] >= -50 - 1e-9 && range[1] <= 150 + 1e-9 && range[1] - range[0] >= 2 - 1e-9);
  }
});

test("keys zoom, pan and go home", () => {
  const spec = { label: "", x: { label: "", range: [0, 10] }, y: { label: "", range: [0, 10] } };
  const chart = { spec, frame: frameOf(spec, homeView(spec), 600), view: null };
  const zoomed = movedView(chart, keyMove("+"));
  assert.deepEqual([zoomed.x[0], zoomed.y[1]], [1, 9]);
  assert.deepEqual(movedView({ ...chart, view: zoomed }, keyMove("ArrowRight")).x, [1.8, 9.8]);
  assert.equal(keyMove("0"), "home");
  assert.equal(keyMove("a"), null);
});

test("names overlap no other name, stay in the frame and, where there is room, leave marks free", () => {
  const frame = { left: 40, top: 20, right: 600, bottom: 340 };
  const random = seeded(11);
  for (let i = 0; i < 30; i += 1) {
    const places = Array.from({ length: 24 }, () => [60 + random() * 520, 40 + random() * 280]);
    const labels = places.map((at) => ({ width: 30 + random() * 60, height: 14, anchors: [at] }));
    const found = placeLabels(labels, frame, places);
    const boxes = found.flatMap((place, k) => (place ? [boxAround(place.x, place.y, labels[k])] : []));
    assert.ok(boxes.length >= 20, "nearly all names find a place");
    boxes.forEach((box, k) => {
      assert.ok(
        box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom,
      );
      assert.ok(boxes.slice(k + 1).every((other) => !boxesOverlap(box, other)));
    });
  }
  const [alone] = placeLabels([{ width: 40, height: 14, anchors: [[300, 180]] }], frame, [[300, 180]]);
  const box = boxAround(alone.x, alone.y, { width: 40, height: 14, anchors: [] });
  assert.ok(!alone.far && !boxesOverlap(box, { left: 297, right: 303, top: 177, bottom: 183 }));
});

test("a name stands nearest to its own mark, or a line leads there", () => {
  const frame = { left: 0, top: 0, right: 400, bottom: 200 };
  const marks = [
    [200, 100],
    [230, 100],
    [215, 115],
  ];
  const labels = marks.map((at) => ({ width: 60, height: 14, anchors: [at] }));
  placeLabels(labels, frame, marks).forEach((place, i) => {
    const { left, right, top, bottom } = boxAround(place.x, place.y, labels[i]);
    const away = marks.map(([x, y]) => Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom)));
    assert.ok(place.far || away[i] === Math.min(...away));
  });
});

test("a name without room is left out, and the chosen one comes first", () => {
  const frame = { left: 0, top: 0, right: 60, bottom: 30 };
  const label = { width: 50, height: 14, anchors: [[30, 28]] };
  const found = placeLabels([label, label, label, { ...label, first: true }], frame, []);
  assert.ok(found[3] && found.filter(Boolean).length < 4);
});

test("pixels along a line lie close together", () => {
  const places = alongLine([
    [0, 0],
    [60, 0],
    [60, 30],
  ]);
  for (let i = 1; i < places.length; i += 1) {
    assert.ok(Math.hypot(places[i][0] - places[i - 1][0], places[i][1] - places[i - 1][1]) <= 6 + 1e-9);
  }
  assert.deepEqual(places.at(-1), [60, 30]);
});

test("a pile holds what a mark hides", () => {
  const places = new Map([
    ["a", [10, 10]],
    ["b", [14, 12]],
    ["c", [40, 10]],
  ]);
  assert.deepEqual(pileOf(places, "a"), ["a", "b"]);
  assert.deepEqual(pileOf(places, "c"), ["c"]);
  assert.deepEqual(pileOf(places, "unknown"), []);
});

test("a frame keeps its plot within the width, and families differ in marker", () => {
  const spec = { label: "", height: 300, x: { label: "", range: [0, 1] }, y: { label: "", range: [0, 1] } };
  for (const width of [330, 390, 768, 1280]) {
    const frame = frameOf(spec, homeView(spec), width);
    assert.ok(frame.right < width && frame.bottom < 300 && withinFrame(frame, frame.x(0.5), frame.y(1)));
    assert.ok(!withinFrame(frame, frame.x(1.2), frame.y(0.5)));
  }
  const families = ["parent", "frontier", "baseline", "acm", "control", "own"];
  assert.equal(new Set(families.map((family) => markerPath({ family }))).size, families.length);
  assert.equal(markerPath({ marker: "down", family: "acm" }), markerPath({ marker: "down" }));
});
