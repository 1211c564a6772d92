import assert from "node:assert/strict";
import { freshId } from "../chart/ids.js";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createTrail } from "../live/presets.js";
import { bare, goldOf, problemName, seeded, shortened, wordProblem } from "../live/problems.js";
import { gradeOf } from "../live/runner.js";
import { coefficientOf, inMode, keysOf, meanOf, mergeKey, sharedBy, withOne, withSome } from "../live/state.js";
import { bootstrapInterval, judge, quantile, reductionInterval, wilson } from "../live/statistics.js";
import { makeTokenizer } from "../core/tokenizer.js";
import { EXAMPLE } from "../live/words.js";
import { ROOT, half, layers, near, start } from "./made.js";

test("the generator's problems are of the family, and their answer is read out of their text", () => {
  const random = seeded(1);
  const asked = new Set();
  for (let k = 0; k < 3000; k += 1) {
    const steps = 1 + (k % 6);
    const { question, gold } = wordProblem(random, steps);
    assert.equal(goldOf(question), gold);
    assert.ok(Number(gold) >= 1 && Number(gold) <= 99);
    assert.equal(question.split(/\. /).length, steps + 2);
    asked.add(question);
  }
  assert.ok(asked.size > 2900);
  assert.equal(wordProblem(seeded(5), 4).question, wordProblem(seeded(5), 4).question);
});

test("the answers of the committed benchmarks are read out of their questions", () => {
  let read = 0;
  for (const name of ["easy", "medium", "hard"]) {
    const lines = readFileSync(new URL(`abacus/benchmarks/abacus_${name}.jsonl`, ROOT), "utf8")
      .trim()
      .split("\n");
    for (const line of lines) {
      const { question, gold } = JSON.parse(line);
      assert.equal(goldOf(question), gold, question);
      read += 1;
    }
  }
  assert.equal(read, 1500);
});

test("the generator draws what the benchmarks have: the same sentences, about as often", () => {
  const kinds = (/** @type {string[]} */ texts) => {
    const all = texts.flatMap((text) => text.match(/buys|finds|wins|sells half|sells|loses|gives away|doubles/g) ?? []);
    return Object.fromEntries(
      [...new Set(all)].sort().map((kind) => [kind, all.filter((k) => k === kind).length / all.length]),
    );
  };
  const lines = readFileSync(new URL("abacus/benchmarks/abacus_hard.jsonl", ROOT), "utf8").trim().split("\n");
  const theirs = kinds(lines.map((line) => JSON.parse(line).question));
  const random = seeded(2);
  const ours = kinds(Array.from({ length: 2000 }, (_, k) => wordProblem(random, 5 + (k % 2)).question));
  assert.deepEqual(Object.keys(ours), Object.keys(theirs));
  for (const [kind, share] of Object.entries(theirs)) near(ours[kind], share, 0.03);
});

test("a text that is no such problem has no answer", () => {
  for (const text of [
    "what is 2+2?",
    "mia has 3 eggs. she sells half. how many eggs are left?",
    "mia has 3 eggs. she sells 9. how many eggs are left?",
    "mia has 3 eggs. how many figs are left?",
    "mia has 3 eggs. she eats 1. how many eggs are left?",
  ])
    assert.equal(goldOf(text), null, text);
  assert.equal(goldOf("Question:  Mia has 3 eggs.\nshe finds 4 more. how many eggs are left? answer:"), "7");
  assert.equal(bare(" question: A  b answer:"), "a b");
  assert.deepEqual(gradeOf("17+4=21. the answer is 21.", "21"), { answer: "21", right: true });
  assert.deepEqual(gradeOf("17+4=21.", "21"), { answer: null, right: false });
  assert.deepEqual(gradeOf("the answer is 3.", null), { answer: "3", right: null });
});

test("intervals are those of other programs", () => {
  // numpy.quantile, SciPy's Wilson, and numpy's bootstrap with 400,000 draws
  const sorted = [1, 1, 2, 3, 4, 5, 6, 9];
  near(quantile(sorted, 0.025), 1);
  near(quantile(sorted, 0.5), 3.5);
  near(quantile(sorted, 0.975), 8.475);
  near(wilson(48, 50).low, 86.5399, 1e-3);
  near(wilson(48, 50).high, 98.8961, 1e-3);
  near(wilson(50, 50).low, 92.8652, 1e-3);
  near(wilson(0, 7).high, 35.433, 1e-3);
  const values = Array.from({ length: 50 }, (_, k) => ((k * 37) % 23) - 12);
  const found = bootstrapInterval(values);
  near(found.mean, -1.12);
  near(found.low, -2.98, 0.12);
  near(found.high, 0.74, 0.12);
  assert.deepEqual(found, bootstrapInterval(values), "the seed is fixed");
});

test("a verdict asks for fewer tokens that are shown, and for as many right", () => {
  const rows = (/** @type {(k: number) => boolean} */ correct, /** @type {(k: number) => number} */ length) =>
    Array.from({ length: 50 }, (_, k) => ({ correct: correct(k), length: length(k) }));
  const theirs = rows(
    (k) => k !== 7,
    (k) => 100 + (k % 5),
  );
  const outcome = (/** @type {any} */ correct, /** @type {any} */ length) =>
    judge(rows(correct, length), theirs).outcome;
  assert.equal(
    outcome(
      () => true,
      (k) => 80 + (k % 7),
    ),
    "won",
  );
  assert.equal(
    outcome(
      (k) => k !== 9,
      (k) => 80 + (k % 7),
    ),
    "won",
  );
  assert.equal(
    outcome(
      (k) => k > 8,
      (k) => 80 + (k % 7),
    ),
    "lost",
    "right less often, with its interval",
  );
  assert.equal(
    outcome(
      () => true,
      (k) => 120 + (k % 7),
    ),
    "lost",
    "longer",
  );
  assert.equal(
    outcome(
      (k) => k > 1,
      (k) => 80 + (k % 7),
    ),
    "open",
    "shorter, but right less often here",
  );
  assert.equal(
    outcome(
      () => true,
      (k) => 102 + 40 * Math.sin(k),
    ),
    "open",
    "about as long",
  );
  const same = judge(theirs, theirs);
  assert.deepEqual([same.outcome, same.accuracy.mean, same.length.mean, same.length.high], ["open", 0, 0, 0]);
});

test("λ keep their values from mode to mode as far as a mode can hold them", () => {
  const painted = withSome(withOne(start, 0.3, layers), { 2: 0.9, norm: -0.2 }, layers);
  assert.equal(painted.mode, "layer");
  assert.equal(sharedBy(painted, layers), null);
  near(meanOf(painted, layers), (0.3 * 7 + 0.9 - 0.2) / 9);
  const parts = inMode(painted, "part", layers);
  assert.deepEqual(keysOf("part", layers).length, 15);
  assert.equal(coefficientOf(parts, "2.mlp"), 0.9);
  assert.equal(mergeKey(parts, layers), mergeKey(painted, layers), "the same merge");
  const split = withSome(parts, { "2.mlp": 0.1 }, layers);
  near(coefficientOf(inMode(split, "layer", layers), "2"), 0.5);
  assert.notEqual(mergeKey(split, layers), mergeKey(painted, layers));
  assert.equal(
    mergeKey({ ...start, method: "task_arithmetic" }, layers),
    mergeKey(start, layers),
    "the same with one model",
  );
  assert.notEqual(mergeKey({ ...start, method: "ties" }, layers), mergeKey(start, layers));
});

test("the trail goes back, holds no repeats, and keeps an outcome", () => {
  const trail = createTrail((/** @type {any} */ item) => item.name, 3);
  for (const name of ["a", "b", "b", "c", "d"]) trail.push({ name });
  trail.push({ name: "d", length: 5 });
  assert.deepEqual(trail.items(), [{ name: "b" }, { name: "c" }, { name: "d", length: 5 }]);
  assert.deepEqual(trail.undo(), { name: "c" });
  assert.deepEqual(trail.undo(), { name: "b" });
  assert.equal(trail.undo(), null);
});

test("the answer of a problem is known only where all numbers are such as the models met", () => {
  const told = (/** @type {string} */ start, /** @type {string} */ step) =>
    goldOf(`mia has ${start} eggs. she ${step}. how many eggs are left?`);
  assert.equal(told("5", "buys 4 more"), "9");
  for (const [start, step] of [
    ["500", "sells 450"],
    ["0", "buys 4 more"],
    ["5", "buys 0 more"],
  ]) {
    assert.equal(told(start, step), null);
  }
});

test("ids differ, also between copies of the script", () => {
  const made = new Set(Array.from({ length: 100 }, () => freshId("choice")));
  assert.equal(made.size, 100);
  assert.ok([...made].every((id) => /^acm-choice-[0-9a-z]+$/.test(id)));
});

test("the example of tokens has so many", () => {
  const json = JSON.parse(readFileSync(new URL("abacus/checkpoints/abacus-fast/tokenizer.json", ROOT), "utf8"));
  assert.equal(makeTokenizer(json).encode(EXAMPLE.text).length, EXAMPLE.tokens);
});

test("a problem has a short name that holds its numbers", () => {
  assert.equal(
    problemName("Nora has 17 shells. she finds 4 more. she gives away 6. she doubles them. how many shells are left?"),
    "nora: 17 shells +4 −6 ×2",
  );
  assert.equal(problemName("mia has 8 eggs. she sells half. how many eggs are left?"), "mia: 8 eggs ÷2");
  assert.equal(problemName("what is this?"), "what is this?");
  assert.equal(
    problemName("mia has 8 eggs. she eats them. how many eggs are left?"),
    "mia has 8 eggs. she eats them.…",
  );
});

test("a long word is cut", () => {
  assert.equal(shortened("x".repeat(400)), `${"x".repeat(30)}…`);
  assert.equal(shortened("bananas"), "bananas");
});

test("the reduction is the mean over tasks of each task's ratio of means, with an interval", () => {
  const items = [10, 30, 100, 300].map((slow, k) => ({ task: k < 2 ? "easy" : "hard", slow }));
  const rows = [10, 10, 100, 100].map((length) => ({ length }));
  const { mean, low, high } = reductionInterval(rows, items);
  near(mean, (50 + 50) / 2, 1e-9); // 1 - 20 / 40 and 1 - 200 / 400; of all together it would be the same
  assert.ok(low < mean && mean < high);
  const uneven = reductionInterval(
    [5, 15, 100, 300].map((length) => ({ length })),
    items,
  );
  near(uneven.mean, (50 + 0) / 2, 1e-9); // of all together it would be 4.5
  const same = reductionInterval(
    items.map(({ slow }) => ({ length: slow })),
    items,
  );
  assert.deepEqual([same.mean, same.low, same.high], [0, 0, 0]);
});
