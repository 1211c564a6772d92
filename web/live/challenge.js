// The challenge: as often right as a published merge, with fewer tokens; measured here, judged by paired intervals.

import { make, makeButton, showNumber } from "./dom.js";
import { TITLES } from "./presets.js";
import { isAbort, messageOf } from "./runner.js";
import { bootstrapInterval, judge, mean, reductionInterval, wilson } from "./statistics.js";
import { makeFold } from "./words.js";

const EMPTY = "Nothing was measured yet. It takes ten seconds or more.";
/** @type {Record<string, string>} */
const OUTCOMES = { won: "Won", lost: "Lost", open: "Not told apart" };
const ITSELF = "This is ACM’s merge itself. Choose another one.";
const ALONE =
  "Shorter at no fewer right answers, against ACM alone. Whether a λ for each layer beats one λ for all " +
  "is another question: compare it with the grey line of the chart.";

/**
 * @typedef {{ measure: (items: any[], options: any) => Promise<any[]>, nameOf: () => string, keyOf: () => string,
 *   isAgainst: () => boolean, onMeasured: (name: string, row: any) => void }} Measuring
 * @param {any} data live.json
 * @param {Measuring} hooks
 */
export function createChallenge(data, hooks) {
  const { items, against } = data.challenge;
  const parts = challengeParts(items, against, [() => void run(), () => stop("Stopped.")]);
  const now = { controller: /** @type {AbortController | null} */ (null), of: "" }; // of: the merge of the result
  const best = { name: "", length: Infinity };
  const end = () => {
    now.controller = null;
    parts.end();
  };
  async function run() {
    const mine = new AbortController();
    const name = hooks.nameOf();
    Object.assign(now, { controller: mine, of: "" });
    parts.begin();
    const rows = await measuredRows(hooks, items, parts, mine.signal);
    if (rows) {
      now.of = hooks.keyOf();
      parts.say(...conclusion(name, rows, data.challenge, best, hooks.isAgainst()));
      hooks.onMeasured(name, summaryOf(rows, items));
    }
    if (now.controller === mine) end();
  }
  /** @param {string} why */
  const stop = (why) => {
    if (!now.controller) return;
    now.controller.abort();
    end();
    parts.say(make("p", {}, why));
  };
  const show = () => parts.dim(now.of !== "" && now.of !== hooks.keyOf() && !now.controller);
  return { node: parts.node, show, stop, destroy: () => stop("") };
}

/**
 * The grades; null where it was stopped or failed, which is said.
 * @param {Measuring} hooks @param {any[]} items @param {ReturnType<typeof challengeParts>} parts
 * @param {AbortSignal} signal
 */
async function measuredRows(hooks, items, parts, signal) {
  try {
    const rows = await hooks.measure(items, { onItem: parts.count, signal });
    return signal.aborted ? null : rows;
  } catch (error) {
    if (!isAbort(error)) parts.say(make("p", {}, `It could not be measured: ${messageOf(error)}`));
    return null;
  }
}

/**
 * The elements, and how they change while a merge is measured.
 * @param {any[]} items @param {string} against @param {(() => void)[]} handlers of go and of stop
 */
function challengeParts(items, against, [onGo, onHalt]) {
  const progress = make("progress", { max: items.length, value: 0, "aria-label": "problems measured" });
  const count = make("span", { class: "count" });
  const go = makeButton("Measure this merge", onGo, { class: "primary" });
  const halt = makeButton("Stop", onHalt);
  const running = make("div", { class: "row running", hidden: true }, progress, count, halt);
  const result = make("div", { class: "result", role: "status" }, make("p", { class: "hint" }, EMPTY));
  /** @param {boolean} on */
  function toggle(on) {
    const focused = [go, halt].includes(document.activeElement);
    running.hidden = !on;
    go.hidden = on;
    if (focused) (on ? halt : go).focus();
    progress.value = 0;
    count.textContent = `0 of ${items.length}`;
  }
  return {
    node: make("section", { class: "challenge" }, invitation(items, against, go, running), result),
    say: (/** @type {HTMLElement[]} */ ...told) => result.replaceChildren(...told),
    /** A result that is of another merge than the one at hand is dimmed. @param {boolean} past */
    dim: (past) => result.classList.toggle("past", past),
    begin() {
      toggle(true);
      result.classList.remove("past");
      result.replaceChildren();
    },
    count() {
      progress.value += 1;
      count.textContent = `${progress.value} of ${items.length}`;
    },
    end: () => toggle(false),
  };
}

/**
 * That the two presets win is measured by the tests in a browser.
 * @param {any[]} items @param {string} against @param {HTMLElement} go @param {HTMLElement} running
 */
function invitation(items, against, go, running) {
  const lead =
    `Can a merge be right as often as ${against}, the preset ACM, with fewer tokens? ` +
    `Set one above, then measure it: ${items.length} problems decide. ` +
    `The presets average and ${TITLES.search} win. Can you find a shorter one?`;
  return make(
    "div",
    {},
    make("h2", {}, "The challenge"),
    make("p", { class: "lead" }, lead),
    make("div", { class: "row wrap" }, go, running),
    smallPrint(items, against),
  );
}

/**
 * @param {string} name @param {any[]} rows @param {any} challenge of live.json
 * @param {{ name: string, length: number }} best the shortest win so far; takes a shorter one
 * @param {boolean} itself whether the merge is the one to be beaten
 */
function conclusion(name, rows, { items, against }, best, itself) {
  const verdict = judge(rows, items);
  const length = mean(rows.map((row) => row.length));
  if (verdict.outcome === "won" && length < best.length) Object.assign(best, { name, length });
  const head = make(
    "p",
    { class: `outcome ${verdict.outcome}` },
    ...(itself ? [ITSELF] : [make("b", {}, `${OUTCOMES[verdict.outcome]}. `), verdict.why]),
  );
  const warning = verdict.outcome === "won" ? [make("p", { class: "hint" }, ALONE)] : [];
  const records = make("p", {}, recordOf(name, rows), make("br", {}), recordOf(against, items));
  return [head, ...warning, records, differences(`${name} less ${against}`, verdict), ...shownBest(best)];
}

/**
 * Accuracy in percent with Wilson's interval; length in tokens and length reduction in percent, with a bootstrap's.
 * @param {import("./statistics.js").Graded[]} rows @param {{ task: string, slow: number }[]} items
 */
function summaryOf(rows, items) {
  const accuracy = wilson(rows.filter((row) => row.correct).length, rows.length);
  const length = bootstrapInterval(rows.map((row) => row.length));
  const reduction = reductionInterval(rows, items);
  return {
    n: rows.length,
    accuracy: accuracy.mean,
    accuracy_low: accuracy.low,
    accuracy_high: accuracy.high,
    length: length.mean,
    length_low: length.low,
    length_high: length.high,
    reduction: reduction.mean,
    reduction_low: reduction.low,
    reduction_high: reduction.high,
  };
}

/** @param {string} name @param {import("./statistics.js").Graded[]} rows */
function recordOf(name, rows) {
  const right = rows.filter((row) => row.correct).length;
  const tokens = mean(rows.map((row) => row.length));
  return `${name}: ${right} of ${rows.length} right, ${tokens.toFixed(0)} tokens on average.`;
}

/** @param {string} title @param {import("./statistics.js").Verdict} verdict */
function differences(title, verdict) {
  const heads = [title, "difference", "95 % interval"].map((text) => make("th", { scope: "col" }, text));
  return make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, row("right, percentage points", verdict.accuracy), row("tokens", verdict.length)),
  );
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
    "Won: your merge is clearly shorter (the whole interval is below 0) and was right at least as often.",
    "Lost: the merge is shown to be right less often, or to be longer.",
    `Not told apart: all else. ${items.length} problems are few, so only large differences of accuracy show.`,
  ];
  const limits = [
    "The intervals are bootstraps of paired differences, with 2,000 draws of the problems and a fixed seed.",
    "They cover the chance of having drawn these problems.",
    "They do not cover models that are trained anew.",
    "If you try many merges and keep the best, the intervals are too optimistic.",
    "If both are right on exactly the same problems, the interval is 0 to 0.",
    "Other problems may still show a difference.",
  ];
  return makeFold("How this is judged", rules.join(" "), limits.join(" "));
}
