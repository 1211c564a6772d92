// The challenge: as often right as a published merge, with fewer tokens; measured here, judged by paired intervals.

import { make, makeButton, showNumber } from "./dom.js";
import { isAbort } from "./runner.js";
import { bootstrapInterval, judge, wilson } from "./statistics.js";
import { makeFold } from "./words.js";

const EMPTY = "Nothing was measured yet. It takes ten seconds or more.";
/** @type {Record<string, string>} */
const OUTCOMES = { won: "Won", lost: "Lost", open: "Not told apart" };

/**
 * @param {any} data live.json
 * @param {{ measure: (items: any[], options: any) => Promise<any[]>, nameOf: () => string, keyOf: () => string,
 *   onMeasured: (name: string, row: any) => void }} hooks
 */
export function createChallenge(data, hooks) {
  const { items, against } = data.challenge;
  const progress = make("progress", { max: items.length, value: 0, "aria-label": "problems measured" });
  const count = make("span", { class: "count" });
  const go = makeButton("Measure this merge", () => void run(), { class: "primary" });
  const halt = makeButton("Stop", () => stop("Stopped."));
  const running = make("div", { class: "row running", hidden: true }, progress, count, halt);
  const result = make("div", { class: "result", role: "status" }, make("p", { class: "hint" }, EMPTY));
  const lead =
    `Can a merge be right as often as ${against}, with fewer tokens? ${items.length} problems decide. ` +
    `${against} is the paper’s merge, the preset ACM.`;
  const node = make(
    "section",
    { class: "challenge" },
    make(
      "div",
      {},
      make("h2", {}, "The challenge"),
      make("p", { class: "lead" }, lead),
      make("div", { class: "row wrap" }, go, running),
      smallPrint(items, against),
    ),
    result,
  );
  /** @type {AbortController | null} */
  let controller = null;
  let shown = ""; // which merge the result is of
  let shortest = { name: "", length: Infinity };

  async function run() {
    const mine = new AbortController();
    controller = mine;
    const name = hooks.nameOf();
    let done = 0;
    toggle(true);
    const onItem = () => {
      done += 1;
      progress.value = done;
      count.textContent = `${done} of ${items.length}`;
    };
    try {
      const rows = await hooks.measure(items, { onItem, signal: mine.signal });
      if (!mine.signal.aborted) conclude(name, rows);
    } catch (error) {
      if (!isAbort(error)) {
        const why = error instanceof Error ? error.message : String(error);
        result.replaceChildren(make("p", {}, `It could not be measured: ${why}`));
      }
    } finally {
      if (controller === mine) toggle(false);
    }
  }

  /** @param {boolean} on */
  function toggle(on) {
    const focused = [go, halt].includes(document.activeElement);
    running.hidden = !on;
    go.hidden = on;
    if (focused) (on ? halt : go).focus();
    progress.value = 0;
    count.textContent = "";
    if (on) {
      shown = "";
      result.classList.remove("past");
      result.replaceChildren();
    } else controller = null;
  }

  /** @param {string} why */
  function stop(why) {
    if (!controller) return;
    controller.abort();
    toggle(false);
    result.replaceChildren(make("p", {}, why));
  }

  /** @param {string} name @param {any[]} rows */
  function conclude(name, rows) {
    const verdict = judge(rows, items);
    const { length } = summaryOf(rows);
    shown = hooks.keyOf();
    if (verdict.outcome === "won" && length < shortest.length) shortest = { name, length };
    result.replaceChildren(...shownResult(name, rows, verdict, against), ...shownBest(shortest));
    hooks.onMeasured(name, summaryOf(rows));
  }

  /** A result that is of another merge than the one at hand is dimmed. */
  function show() {
    const past = shown !== "" && shown !== hooks.keyOf() && !controller;
    result.classList.toggle("past", past);
  }

  return { node, show, stop, destroy: () => stop("") };
}

/**
 * Accuracy in percent with Wilson's interval, length in tokens with a bootstrap's.
 * @param {import("./statistics.js").Graded[]} rows
 */
function summaryOf(rows) {
  const accuracy = wilson(rows.filter((row) => row.correct).length, rows.length);
  const length = bootstrapInterval(rows.map((row) => row.length));
  return {
    n: rows.length,
    accuracy: accuracy.mean,
    accuracy_low: accuracy.low,
    accuracy_high: accuracy.high,
    length: length.mean,
    length_low: length.low,
    length_high: length.high,
  };
}

/**
 * @param {string} name @param {any[]} rows @param {import("./statistics.js").Verdict} verdict @param {string} against
 */
function shownResult(name, rows, verdict, against) {
  const right = rows.filter((row) => row.correct).length;
  const tokens = summaryOf(rows).length;
  const head = make(
    "p",
    { class: `outcome ${verdict.outcome}` },
    make("b", {}, `${OUTCOMES[verdict.outcome]}. `),
    verdict.why,
  );
  const table = make(
    "table",
    {},
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        make("th", { scope: "col" }, `${name} less ${against}`),
        make("th", { scope: "col" }, "difference"),
        make("th", { scope: "col" }, "95 % interval"),
      ),
    ),
    make("tbody", {}, row("right, points", verdict.accuracy), row("tokens", verdict.length)),
  );
  return [
    head,
    make("p", {}, `${name}: ${right} of ${rows.length} right, ${tokens.toFixed(0)} tokens on average.`),
    table,
  ];
}

/** What is to be beaten next. @param {{ name: string, length: number }} shortest */
function shownBest({ name, length }) {
  if (!name) return [];
  return [
    make("p", { class: "hint" }, `Your shortest win: ${length.toFixed(0)} tokens, with ${name}. How short can it be?`),
  ];
}

/** @param {string} name @param {import("./statistics.js").Interval} interval */
function row(name, interval) {
  const { mean, low, high } = interval;
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, name),
    make("td", {}, signed(mean)),
    make("td", {}, `${signed(low)} to ${signed(high)}`),
  );
}

/** @param {number} value */
function signed(value) {
  return `${value > 0 ? "+" : ""}${showNumber(value, 1)}`;
}

/** @param {any[]} items @param {string} against */
function smallPrint(items, against) {
  const rules = [
    `Your merge and ${against} answer the same ${items.length} problems.`,
    "Won: the whole interval of the difference of tokens lies below 0, and the merge was right at least as often.",
    "Lost: the merge is shown to be right less often, or to be longer.",
    `Not told apart: all else. ${items.length} problems are few, so only large differences of accuracy show.`,
  ];
  const limits = [
    "The intervals are bootstraps of paired differences, with 2,000 draws of the problems and a fixed seed.",
    "They cover the chance of having drawn these problems.",
    "They do not cover a choice of the best among many merges. They do not cover models that are trained anew.",
    "Where both are right on the same problems, the interval of the accuracy is 0 to 0.",
    "Other problems might tell them apart.",
  ];
  return makeFold("How this is judged", rules.join(" "), limits.join(" "));
}
