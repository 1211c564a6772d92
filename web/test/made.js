// What tests of the live page share: the committed live.json, a first state, and a comparison of numbers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { withOne } from "../live/state.js";

export const ROOT = new URL("../../", import.meta.url);
export const data = JSON.parse(readFileSync(new URL("reports/tiny/long-to-short/live.json", ROOT), "utf8"));
export const { layers } = data;
const plain = { method: "interpolation", density: 0.2, mode: "one", coefficients: {}, question: "" };
export const half = (question = "") => withOne({ ...plain, question }, 0.5, layers);
export const start = half("mia has 2 eggs. how many eggs are left?");
export const near = (/** @type {number} */ found, /** @type {number} */ wanted, by = 1e-9) =>
  assert.ok(Math.abs(found - wanted) <= by, `${found} is not ${wanted}`);
