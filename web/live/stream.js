// One answer as it comes: its steps, the wrong ones marked, its verdict and its length.

import { steps } from "../core/grading.js";
import { make } from "./dom.js";
import { goldOf } from "./problems.js";
import { gradeOf } from "./runner.js";

/** @typedef {{ node: any, tag: any, body: any, verdict: any, count: any, bar: any }} StreamParts */
/** @typedef {{ text: string, length: number, truncated: boolean }} Result */

/**
 * @param {string} name "fast", "merged" or "slow"
 * @param {string} title
 */
export function createStream(name, title) {
  const parts = streamParts(name, title);
  const now = newAnswer();
  const later = () => {
    now.frame ||= requestAnimationFrame(() => drawAnswer(parts, now));
  };
  return {
    node: parts.node,
    tag: (/** @type {string} */ text) => {
      parts.tag.textContent = text;
    },
    /** A new answer is coming. It writes over the old one, which stays pale. @param {string} question */
    start(question) {
      const old = question === now.question ? now.text + (now.done ? "" : remains(now)) : "";
      Object.assign(now, { text: "", old, tokens: 0, done: false, gold: goldOf(question), question });
      parts.node.classList.add("stale");
      later();
    },
    /** @param {string} text */
    token(text) {
      if (now.tokens === 0) {
        parts.node.classList.remove("stale");
        parts.verdict.replaceChildren("…");
      }
      now.text += text;
      now.tokens += 1;
      later();
    },
    finish: (/** @type {Result} */ result) => finishAnswer(parts, now, result),
    /** The bar shows the share of so many tokens. @param {number} tokens */
    longest(tokens) {
      now.longest = Math.max(1, tokens);
      later();
    },
    clear: (/** @type {string} */ text) => clearAnswer(parts, now, text),
  };
}

function newAnswer() {
  const gold = /** @type {string | null} */ (null);
  return { text: "", old: "", tokens: 0, done: true, gold, question: "", longest: 1, frame: 0 };
}

/** @param {string} name @param {string} title @returns {StreamParts} */
function streamParts(name, title) {
  const tag = make("span", { class: "tag" });
  const body = make("div", { class: "answer", tabindex: 0, role: "group", "aria-label": `answer of ${title}` });
  const verdict = make("p", { class: "verdict" }, " ");
  const count = make("p", { class: "count" }, " ");
  const bar = make("div", { class: "length-bar", "aria-hidden": "true" });
  const node = make(
    "article",
    { class: `stream ${name}`, "data-who": name },
    make("header", {}, make("h2", {}, title), tag),
    make("div", { class: "facts" }, verdict, count),
    bar,
    body,
  );
  return { node, tag, body, verdict, count, bar };
}

/** @param {StreamParts} parts @param {ReturnType<typeof newAnswer>} now */
function drawAnswer({ body, count, bar }, now) {
  now.frame = 0;
  body.replaceChildren(...shownSteps(now.text, now.done), ...(now.done ? [] : comingNodes(remains(now))));
  count.textContent = `${now.tokens} token${now.tokens === 1 ? "" : "s"}`;
  bar.style.setProperty("--share", String(Math.min(1, now.tokens / now.longest)));
}

/** What the coming answer has not written over yet. @param {{ text: string, old: string }} now */
function remains({ text, old }) {
  return old.slice(text.length);
}

/** @param {StreamParts} parts @param {ReturnType<typeof newAnswer>} now @param {Result} result */
function finishAnswer(parts, now, result) {
  Object.assign(now, { text: result.text, tokens: result.length, done: true });
  parts.node.classList.remove("stale");
  drawAnswer(parts, now);
  parts.verdict.replaceChildren(...shownVerdict(result, now.gold));
}

/** @param {StreamParts} parts @param {ReturnType<typeof newAnswer>} now @param {string} text */
function clearAnswer({ node, body, verdict, count, bar }, now, text) {
  cancelAnimationFrame(now.frame);
  Object.assign(now, { text: "", old: "", question: "", tokens: 0, done: true, frame: 0 });
  node.classList.remove("stale");
  body.replaceChildren(text);
  verdict.replaceChildren(" ");
  count.textContent = " ";
  bar.style.setProperty("--share", "0");
}

/** The cursor, and what is left of the answer before. @param {string} old */
function comingNodes(old) {
  return [
    make("span", { class: "cursor", "aria-hidden": "true" }),
    make("span", { class: "old", "aria-hidden": "true" }, old),
  ];
}

/**
 * The pieces of an answer; a step is told from other text, a wrong one by colour and by a cross.
 * @param {string} text @param {boolean} done
 */
function shownSteps(text, done) {
  const pieces = steps(text);
  return pieces.map((piece, k) => {
    const wrong = piece.wrong && (done || k < pieces.length - 1); // the last number may still grow
    const kind = wrong ? "step wrong" : piece.step ? "step" : "said";
    const mark = wrong
      ? make(
          "span",
          { class: "mark" },
          make("span", { "aria-hidden": "true" }, " ✗"),
          make("span", { class: "unseen" }, " wrong step"),
        )
      : null;
    return make("span", { class: kind }, piece.text, mark);
  });
}

/** @param {{ text: string, truncated: boolean }} result @param {string | null} gold */
function shownVerdict(result, gold) {
  const { answer, right } = gradeOf(result.text, gold);
  if (answer === null)
    return [make("span", { class: "bad" }, result.truncated ? "✗ cut off, no answer" : "✗ no answer")];
  const shown = make("b", {}, answer);
  if (right === null) return ["answers ", shown, ". Not checked: see the note at the problem."];
  if (right) return [make("span", { class: "good" }, "✓ "), shown, make("span", { class: "good" }, " right")];
  return [make("span", { class: "bad" }, "✗ "), shown, make("span", { class: "bad" }, " wrong"), `, it is ${gold}`];
}
