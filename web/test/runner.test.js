import assert from "node:assert/strict";
import { test } from "node:test";
import { createRunner } from "../live/runner.js";

/** An engine that notes its calls; answers come when they are let. */
function fakeEngine() {
  /** @type {string[]} */
  const calls = [];
  /** @type {{ who: string, resolve: (result: any) => void }[]} */
  const open = [];
  const engine = {
    unknown: async (/** @type {string} */ question) => (question.includes("banana") ? ["banana"] : []),
    merge: async (/** @type {any} */ { coefficients }) => {
      calls.push(`merge ${coefficients.embed}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      return { milliseconds: 5 };
    },
    ask: (/** @type {string} */ who, /** @type {string} */ question, /** @type {any} */ { onToken, signal }) => {
      calls.push(`ask ${who} ${question}`);
      return new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
        open.push({ who, resolve: (result) => (onToken({ text: "x" }), resolve(result)) });
      });
    },
    close() {},
  };
  return { engine, calls, open };
}

/** @param {number} embed */
const wish = (embed, question = "q") => ({
  method: "interpolation",
  density: 0.2,
  mode: "one",
  coefficients: { embed },
  question,
});
const soon = (milliseconds = 200) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** @param {(() => Promise<any>) | null} start */
function runnerWith(start = null) {
  const { engine, calls, open } = fakeEngine();
  /** @type {any[]} */
  const told = [];
  const runner = createRunner(start ?? (async () => engine), (state) => String(state.coefficients.embed), {
    onStatus: (kind, detail) => told.push([kind, detail]),
    onStart: () => {},
    onToken: (who, text) => told.push([who, text]),
    onAnswer: (who, result) => told.push([who, result.text]),
    onUnknown: (words) => told.push(["unknown", words]),
  });
  return { runner, engine, calls, open, told };
}

test("a merge is measured once it is made, and the status says so", async () => {
  const { runner, engine, calls, told } = runnerWith();
  Object.assign(engine, {
    measure: async (/** @type {any[]} */ items) => items.map((item) => ({ item, correct: true })),
  });
  await runner.request(wish(0.5, "a banana"));
  assert.deepEqual(calls, []);
  const signal = new AbortController().signal;
  assert.deepEqual(await runner.measure(wish(0.5, "a banana"), [1], { signal }), [{ item: 1, correct: true }]);
  assert.deepEqual(calls, ["merge 0.5"]);
  assert.equal(told.at(-1)[0], "ready");
});

test("while it measures the status says so, also once the answers are there", async () => {
  const { runner, engine, open, told } = runnerWith();
  let end = () => {};
  Object.assign(engine, { measure: () => new Promise((resolve) => (end = () => resolve([]))) });
  void runner.request(wish(0.5));
  await soon();
  const measured = runner.measure(wish(0.5), [1], { signal: new AbortController().signal });
  await soon();
  for (const { resolve } of open) resolve({ text: "a", length: 1, milliseconds: 1 });
  await soon();
  assert.equal(told.at(-1)[0], "measuring");
  end();
  await measured;
  assert.equal(told.at(-1)[0], "ready");
});

test("a measurement without models fails in the status too, and the next one tries again", async () => {
  const { engine } = fakeEngine();
  Object.assign(engine, { measure: async () => [] });
  let tries = 0;
  const { runner, told } = runnerWith(async () => {
    tries += 1;
    if (tries === 1) throw new Error("no network");
    return engine;
  });
  const signal = new AbortController().signal;
  await assert.rejects(runner.measure(wish(0.5), [], { signal }), /no network/);
  assert.deepEqual(told.at(-1), ["failed", "no network"]);
  assert.deepEqual(await runner.measure(wish(0.5), [], { signal }), []);
  assert.equal(told.at(-1)[0], "ready");
});

test("after a merge that failed all three are asked again", async () => {
  const { runner, engine, calls } = runnerWith();
  const { merge } = engine;
  engine.merge = async () => {
    throw new Error("no room");
  };
  await runner.request(wish(0.5));
  engine.merge = merge;
  void runner.request(wish(0.6));
  await soon();
  assert.deepEqual(calls, ["merge 0.6", "ask merged q", "ask fast q", "ask slow q"]);
});

test("only the newest of many wishes is merged and asked; the parents are asked once a question", async () => {
  const { runner, calls, open } = runnerWith();
  for (const value of [0.1, 0.2, 0.3]) void runner.request(wish(value));
  await soon();
  assert.deepEqual(calls, ["merge 0.3", "ask merged q", "ask fast q", "ask slow q"]);
  void runner.request(wish(0.4));
  void runner.request(wish(0.5));
  await soon();
  assert.equal(calls.at(-1), "ask merged q");
  assert.ok(calls.filter((call) => call.startsWith("merge")).length <= 3 && calls.includes("merge 0.5"));
  assert.equal(calls.filter((call) => call === "ask fast q").length, 1);
  void runner.request(wish(0.5, "other"));
  await soon();
  assert.deepEqual(calls.slice(-3), ["ask merged other", "ask fast other", "ask slow other"]);
  assert.equal(open.length >= 7, true);
});

test("an older answer is never shown after a newer wish", async () => {
  const { runner, open, told } = runnerWith();
  void runner.request(wish(0.1));
  await soon();
  void runner.request(wish(0.9));
  await soon();
  const asked = open.filter(({ who }) => who === "merged");
  asked[0].resolve({ text: "old", length: 1, milliseconds: 1 });
  asked[1].resolve({ text: "new", length: 1, milliseconds: 1 });
  await soon();
  const merged = told.filter(([who]) => who === "merged").map(([, text]) => text);
  assert.deepEqual(merged, ["x", "new"]);
});

test("a question with unknown words is refused, and the next one is asked", async () => {
  const { runner, calls, told } = runnerWith();
  void runner.request(wish(0.5, "a banana"));
  await soon();
  assert.deepEqual(calls, []);
  assert.deepEqual(
    told.find(([kind]) => kind === "unknown"),
    ["unknown", ["banana"]],
  );
  assert.equal(told.at(-1)[0], "ready");
  void runner.request(wish(0.5, "q"));
  await soon();
  assert.equal(calls.length, 4);
});

test("what fails is told, and the next wish tries again", async () => {
  const { engine } = fakeEngine();
  let tries = 0;
  const { runner, told } = runnerWith(async () => {
    tries += 1;
    if (tries === 1) throw new Error("no network");
    return engine;
  });
  await runner.request(wish(0.5));
  assert.deepEqual(told.at(-1), ["failed", "no network"]);
  void runner.request(wish(0.6));
  await soon();
  assert.equal(tries, 2);
  assert.equal(told.at(-1)[0], "answering");
});
